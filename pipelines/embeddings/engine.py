"""Engine: what runs a local model. The service module chooses one; nothing outside it knows which."""

import logging
from pathlib import Path
from typing import Protocol

import numpy as np

log = logging.getLogger(__name__)


class Engine(Protocol):
    """A loaded model."""

    device: str
    """Where it runs, e.g. `cpu`, `cuda:0`."""

    def encode(self, texts: list[str]) -> np.ndarray:
        """`float32 [texts, dimension]`, unit length, in the order given."""


class TorchEngine:
    """The reference: SentenceTransformer itself. Importing it takes seconds."""

    def __init__(self, folder: Path, device: str, batch_tokens: int) -> None:
        from sentence_transformers import SentenceTransformer

        self._model = SentenceTransformer(str(folder), device=None if device == "auto" else device)
        self._batch_tokens = batch_tokens
        self.device = str(self._model.device)
        log.info("%s runs on %s with torch", folder.name, self.device)

    def encode(self, texts: list[str]) -> np.ndarray:
        """`float32 [texts, dimension]`, unit length, in the order given."""
        vectors = np.empty((len(texts), self._model.get_embedding_dimension() or 0), np.float32)
        lengths = [len(ids) for ids in self._model.tokenizer(texts)["input_ids"]] if texts else []
        for rows in token_batches(lengths, self._batch_tokens):
            vectors[rows] = self._model.encode(
                [texts[row] for row in rows],
                batch_size=len(rows),
                normalize_embeddings=True,
                show_progress_bar=False,
            )
        return vectors


def token_batches(lengths: list[int], batch_tokens: int) -> list[list[int]]:
    """Rows grouped for one call each: alike in length, at most `batch_tokens` of them with padding."""
    batches: list[list[int]] = []
    longest = 0
    for row in sorted(range(len(lengths)), key=lambda row: -lengths[row]):
        if not batches or (len(batches[-1]) + 1) * longest > batch_tokens:
            batches.append([])
            longest = lengths[row]
        batches[-1].append(row)
    return batches
