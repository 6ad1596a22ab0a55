"""onnxruntime: a BERT model on the CPU in fp32, without torch; for machines that OpenVINO does not know."""

import logging
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import numpy as np

from squadron.embeddings.local.bert import read_bert
from squadron.embeddings.local.engine import token_batches, usable_cores
from squadron.embeddings.local.model_tokens import ModelTokens
from squadron.embeddings.local.onnx_bert import encoder
from squadron.embeddings.local.onnx_runtime import onnxruntime
from squadron.errors import SettingsError

log = logging.getLogger(__name__)

# Measured: smaller calls are no faster, larger ones leave the processor's caches.
_BATCH_TOKENS = 256
_TEXTS_AT_A_TIME = 2048
_MAX_STREAMS = 32


class OnnxEngine:
    """A thread for each core, which runs batches of its own: no thread waits for another one's part of a product."""

    def __init__(self, folder: Path, precision: str, batch_tokens: int | None = None) -> None:
        if precision not in ("auto", "fp32"):
            raise SettingsError(
                f"embedding.sentence_transformers.precision is {precision!r}, and onnxruntime computes in fp32 here: "
                "set it to auto or fp32, or backend to auto"
            )
        bert = read_bert(folder)
        graph, weights = encoder(bert)
        # They look at the arrays, and the session at them: all three live as long as the engine.
        self._weights = {name: onnxruntime.OrtValue.ortvalue_from_numpy(values) for name, values in weights.items()}
        self._session = onnxruntime.InferenceSession(graph, self._options(), providers=["CPUExecutionProvider"])
        self._streams = min(usable_cores(), _MAX_STREAMS)
        self._threads = ThreadPoolExecutor(self._streams, "onnx")
        self._dimension = self._session.get_outputs()[0].shape[1]
        self._batch_tokens = batch_tokens or _BATCH_TOKENS
        self._model_tokens = ModelTokens(folder)
        self.device = "cpu, onnx fp32"
        log.info("%s runs on %s with %d streams", folder.name, self.device, self._streams)

    def encode(self, texts: list[str]) -> np.ndarray:
        """`float32 [texts, dimension]`, unit length, in the order given.

        A vector depends on the other texts of the call by rounding alone.
        """
        vectors = np.empty((len(texts), self._dimension), np.float32)
        batches: list[Future[None]] = []
        for start in range(0, len(texts), _TEXTS_AT_A_TIME):
            # While the threads compute, the next texts become tokens.
            ids = self._model_tokens.ids(texts[start : start + _TEXTS_AT_A_TIME])
            into = vectors[start : start + len(ids)]
            batches += [
                self._threads.submit(self._run, [ids[row] for row in rows], rows, into)
                for rows in token_batches([len(text) for text in ids], self._batch_tokens)
            ]
        for batch in batches:
            batch.result()
        return vectors

    def _run(self, ids: list[list[int]], rows: list[int], vectors: np.ndarray) -> None:
        lengths = np.array([len(text) for text in ids], np.int32)
        padded = np.zeros((len(ids), lengths.max()), np.int32)
        for place, text in enumerate(ids):
            padded[place, : len(text)] = text
        vectors[rows] = self._session.run(None, {"ids": padded, "lengths": lengths})[0]

    def _options(self) -> onnxruntime.SessionOptions:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1  # the thread that calls computes
        options.enable_mem_pattern = False  # one for each shape of a batch, and shapes are many
        options.add_external_initializers(list(self._weights), list(self._weights.values()))
        return options
