"""torch: SentenceTransformer itself, the reference. It runs every model, on GPUs too; importing it takes seconds."""

import logging
import os
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np

from pipelines.embeddings.engine import token_batches, usable_cores
from pipelines.errors import EmbeddingError, SettingsError
from pipelines.overlap import made_ahead

log = logging.getLogger(__name__)

_BATCH_TOKENS = 4096
# A GPU is fed by calls that keep it busy for longer than the next one takes to prepare.
_GPU_BATCH_TOKENS = 65_536
_TEXTS_AT_A_TIME = 1024
_BATCHES_AHEAD = 4


class TorchEngine:
    """A model that sentence-transformers loads and runs.

    A thread makes tokens of the next texts while the model computes, and vectors stay on the device until the last
    is there: a GPU does not wait for either.
    """

    def __init__(self, folder: Path, device: str, precision: str, batch_tokens: int | None = None) -> None:
        if precision == "int8":
            raise SettingsError("embedding.sentence_transformers.precision is 'int8', which torch does not run here")
        # Threads that wait for work leave their core to other processes. Read when torch is loaded.
        os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
        import torch
        from sentence_transformers import SentenceTransformer
        from transformers.utils import logging as transformers_logging

        transformers_logging.disable_progress_bar()
        _check(device)
        torch.set_num_threads(usable_cores())
        self._torch = torch
        self._model: Any = SentenceTransformer(str(folder), device=None if device == "auto" else device).eval()
        self._on_gpu = self._model.device.type == "cuda"
        if precision == "auto":
            precision = "bf16" if self._on_gpu and torch.cuda.is_bf16_supported(including_emulation=False) else "fp32"
        self._precision = precision
        if self._on_gpu and precision == "bf16":
            self._model = self._model.bfloat16()
        self._batch_tokens = batch_tokens or (_GPU_BATCH_TOKENS if self._on_gpu else _BATCH_TOKENS)
        self.device = f"{self._model.device}, torch {precision}"
        log.info("%s runs on %s", folder.name, self.device)

    def encode(self, texts: list[str]) -> np.ndarray:
        """`float32 [texts, dimension]`, unit length, in the order given."""
        torch = self._torch
        vectors = np.empty((len(texts), self._model.get_embedding_dimension() or 0), np.float32)
        with ExitStack() as computing:
            computing.enter_context(torch.inference_mode())
            if self._precision == "bf16" and not self._on_gpu:
                # Matrix products in bf16, sums and norms in fp32.
                computing.enter_context(torch.autocast(self._model.device.type, torch.bfloat16))
            batches = computing.enter_context(made_ahead(self._batches(texts), _BATCHES_AHEAD))
            order: list[int] = []
            found = []
            for rows, tokens in batches:
                order += rows
                on_device = {name: each.to(self._model.device, non_blocking=True) for name, each in tokens.items()}
                found.append(self._model(on_device)["sentence_embedding"].float())
            if found:
                vectors[order] = torch.nn.functional.normalize(torch.cat(found)).cpu().numpy()
        return vectors

    def _batches(self, texts: list[str]) -> Iterator[tuple[list[int], dict[str, Any]]]:
        """The rows of each call, and their tokens, padded to the longest."""
        tokenizer = self._model.tokenizer
        for start in range(0, len(texts), _TEXTS_AT_A_TIME):
            part = texts[start : start + _TEXTS_AT_A_TIME]
            tokens = tokenizer(part, truncation=True, max_length=self._model.max_seq_length)
            for rows in token_batches([len(ids) for ids in tokens["input_ids"]], self._batch_tokens):
                chosen = {name: [values[row] for row in rows] for name, values in tokens.items()}
                padded = tokenizer.pad(chosen, return_tensors="pt")
                if self._on_gpu:
                    padded = {name: each.pin_memory() for name, each in padded.items()}
                yield [start + row for row in rows], dict(padded)


def _check(device: str) -> None:
    import torch

    if (device == "cuda" and not torch.cuda.is_available()) or (
        device == "mps" and not torch.backends.mps.is_available()
    ):
        raise EmbeddingError(
            f"embedding.sentence_transformers.device is {device!r}, but torch {torch.__version__} finds none here: "
            "set it to auto or cpu, or install a torch that has it"
        )
