"""OpenVINO: a BERT model on the CPU, ten times faster to load than torch and several times faster to run."""

import logging
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from squadron.embeddings.local.bert import read_bert
from squadron.embeddings.local.model_tokens import truncating_tokenizer
from squadron.embeddings.local.openvino_bert import encoder
from squadron.embeddings.local.openvino_runtime import openvino
from squadron.embeddings.local.token_batches import token_batches
from squadron.embeddings.local.usable_cores import usable_cores
from squadron.errors import SettingsError
from squadron.process.prefetch import prefetched

log = logging.getLogger(__name__)

# Measured: from 512 to 2,048 tokens a call they take the same time each. Small calls end together on all streams.
_BATCH_TOKENS = 1024
_MIN_BATCH_TOKENS = 256
# A shape that a stream meets for the first time costs it about 10 ms: few lengths, few shapes.
_LENGTH_STEP = 16
# Sorted by length among these, 1 % more is padding than among all texts; the streams wait for the first of them only.
_TEXTS_AT_A_TIME = 256
_MAX_STREAMS = 32
_INT8_GROUP = 128


class OpenVINOEngine:
    """One stream of batches for each core, one thread in each: no thread waits for another one's part of a product.

    The streams sleep when there is nothing to do and belong to no particular core, so that processes which share a
    machine share its cores.
    """

    def __init__(self, folder: Path, precision: str, batch_tokens: int | None = None) -> None:
        core = openvino.Core()
        native_bf16 = "BF16" in core.get_property("CPU", "OPTIMIZATION_CAPABILITIES")
        self._precision = resolved_precision(precision, native_bf16)
        bert = read_bert(folder)
        streams = min(usable_cores(), _MAX_STREAMS)
        compiled = core.compile_model(
            encoder(bert, int8=self._precision == "int8"), "CPU", _properties(self._precision, native_bf16, streams)
        )
        self._streams = int(compiled.get_property("NUM_STREAMS"))
        self._queue = openvino.AsyncInferQueue(compiled, self._streams)
        self._queue.set_callback(_copy_vectors)
        self._lock = threading.Lock()
        self._dimension = int(compiled.output(0).partial_shape[1].get_length())
        self._batch_tokens = batch_tokens or _BATCH_TOKENS
        self._positions = bert.positions
        self._tokenizer = truncating_tokenizer(folder)
        self.device = f"cpu, openvino {self._precision}"
        log.info("%s runs on %s with %d streams", folder.name, self.device, self._streams)

    def encode(self, texts: list[str]) -> np.ndarray:
        """`float32 [texts, dimension]`, unit length, in the order given.

        A vector depends on the other texts of the call by rounding alone: its cosine to itself is above 0.999.
        """
        vectors = np.empty((len(texts), self._dimension), np.float32)
        with self._lock:
            with prefetched(self._tokens(texts)) as parts:
                for start, ids in parts:
                    self._start(ids, vectors[start : start + len(ids)])
            self._queue.wait_all()
        return vectors

    def _tokens(self, texts: list[str]) -> Iterator[tuple[int, list[list[int]]]]:
        """The token ids of the texts, some at a time, and the row of the first of them."""
        for start in range(0, len(texts), _TEXTS_AT_A_TIME):
            encodings = self._tokenizer.encode_batch_fast(texts[start : start + _TEXTS_AT_A_TIME])
            yield start, [encoding.ids for encoding in encodings]

    def _start(self, ids: list[list[int]], vectors: np.ndarray) -> None:
        lengths = [len(text) for text in ids]
        share = max(sum(lengths) // self._streams, _MIN_BATCH_TOKENS)  # a small call, too, is for all streams
        for rows in token_batches(lengths, min(self._batch_tokens, share), _LENGTH_STEP):
            longest = -(-lengths[rows[0]] // _LENGTH_STEP) * _LENGTH_STEP
            padded = np.zeros((len(rows), min(longest, self._positions)), np.int32)
            for line, row in enumerate(rows):
                padded[line, : lengths[row]] = ids[row]
            sizes = np.array([lengths[row] for row in rows], np.int32)
            self._queue.start_async({0: padded, 1: sizes}, (vectors, rows))


def resolved_precision(precision: str, native_bf16: bool) -> str:
    """`auto` is bf16 where the CPU computes in it, else fp32; what is asked for by name is given or refused."""
    if precision == "auto":
        return "bf16" if native_bf16 else "fp32"
    if precision == "bf16" and not native_bf16:
        raise SettingsError(
            "embedding.sentence_transformers.precision is 'bf16', which this machine's CPU cannot compute in "
            "(it has neither avx512_bf16 nor amx_bf16): set it to auto or fp32, or run where all workers can"
        )
    return precision


def _properties(precision: str, native_bf16: bool, streams: int) -> dict[str, Any]:
    computed_in = "bf16" if precision == "bf16" or (precision == "int8" and native_bf16) else "f32"
    return {
        "INFERENCE_PRECISION_HINT": computed_in,
        "NUM_STREAMS": streams,
        "INFERENCE_NUM_THREADS": streams,
        "ENABLE_CPU_PINNING": False,
        "PERFORMANCE_HINT": "THROUGHPUT",
    } | ({"DYNAMIC_QUANTIZATION_GROUP_SIZE": _INT8_GROUP} if precision == "int8" else {})


def _copy_vectors(request: Any, target: tuple[np.ndarray, list[int]]) -> None:
    vectors, rows = target
    vectors[rows] = request.get_output_tensor(0).data
