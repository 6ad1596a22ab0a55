"""torch: SentenceTransformer itself, the reference. It runs every model, on GPUs too; importing it takes seconds."""

import logging
import os
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

import numpy as np

from pipelines.embeddings.engine import token_batches, usable_cores
from pipelines.errors import EmbeddingError, SettingsError

log = logging.getLogger(__name__)

_BATCH_TOKENS = 4096


class TorchEngine:
    """A model that sentence-transformers loads and runs."""

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
        self._model: Any = SentenceTransformer(str(folder), device=None if device == "auto" else device)
        self._batch_tokens = batch_tokens or _BATCH_TOKENS
        self._precision = "bf16" if precision == "bf16" else "fp32"
        self.device = f"{self._model.device}, torch {self._precision}"
        log.info("%s runs on %s", folder.name, self.device)

    def encode(self, texts: list[str]) -> np.ndarray:
        """`float32 [texts, dimension]`, unit length, in the order given."""
        vectors = np.empty((len(texts), self._model.get_embedding_dimension() or 0), np.float32)
        with self._computing():
            for rows in token_batches(self._lengths(texts), self._batch_tokens):
                vectors[rows] = self._model.encode(
                    [texts[row] for row in rows],
                    prompt="",  # the texts bear theirs already
                    batch_size=len(rows),
                    normalize_embeddings=True,
                    show_progress_bar=False,
                )
        return vectors

    def _lengths(self, texts: list[str]) -> list[int]:
        if not texts:
            return []
        encoded = self._model.tokenizer(texts, truncation=True, max_length=self._model.max_seq_length)
        return [len(ids) for ids in encoded["input_ids"]]

    def _computing(self) -> AbstractContextManager[Any]:
        if self._precision == "fp32":
            return nullcontext()
        import torch

        # Matrix products in bf16, sums and norms in fp32.
        return torch.autocast(self._model.device.type, torch.bfloat16)


def _check(device: str) -> None:
    import torch

    if (device == "cuda" and not torch.cuda.is_available()) or (
        device == "mps" and not torch.backends.mps.is_available()
    ):
        raise EmbeddingError(
            f"embedding.sentence_transformers.device is {device!r}, but torch {torch.__version__} finds none here: "
            "set it to auto or cpu, or install a torch that has it"
        )
