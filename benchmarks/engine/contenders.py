"""Contenders: each engine as a function of texts, `SentenceTransformer.encode`, and the network alone.

What an engine needs is imported when it is asked for: a GPU's machine may have torch and nothing else.
"""

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from squadron.embeddings.local.token_batches import token_batches

Encode = Callable[[list[str]], np.ndarray]
BARE_BATCH_TOKENS = {"cpu": (1_024, 4_096), "cuda": (16_384, 65_536, 262_144)}


def reference(folder: Path, device: str) -> Encode:
    """`SentenceTransformer.encode`, as its documentation shows it."""
    from sentence_transformers import SentenceTransformer

    model = SentenceTransformer(str(folder), device=device)
    return lambda texts: model.encode(texts, batch_size=32, normalize_embeddings=True, show_progress_bar=False)


def engine(folder: Path, name: str, device: str, batch_tokens: int | None) -> Encode:
    """An engine by backend and precision, e.g. `openvino bf16`; `bare bf16` is the network alone."""
    backend, precision = name.split()
    if backend == "bare":
        return _Bare(folder, device, precision, batch_tokens)
    if backend == "torch":
        from squadron.embeddings.local.torch_engine import TorchEngine

        return TorchEngine(folder, device, precision, batch_tokens).encode
    from squadron.embeddings.local.openvino_engine import OpenVINOEngine

    return OpenVINOEngine(folder, precision, batch_tokens).encode


class _Bare:
    """The network alone, over batches of tokens that were made, sorted and put on the device before.

    Of several sizes of a batch it takes that which was fastest when it met the texts first.
    """

    def __init__(self, folder: Path, device: str, precision: str, batch_tokens: int | None) -> None:
        from sentence_transformers import SentenceTransformer

        self._model: Any = SentenceTransformer(str(folder), device=device).eval()
        if precision == "bf16":
            self._model = self._model.bfloat16()
        self._device, self._sizes = device, (batch_tokens,) if batch_tokens else BARE_BATCH_TOKENS[device]
        self._met: dict[tuple[str, ...], list[tuple[list[int], dict[str, Any]]]] = {}

    def __call__(self, texts: list[str]) -> np.ndarray:
        key = tuple(texts)
        if key not in self._met:
            ids = self._model.tokenizer(texts, truncation=True, max_length=self._model.max_seq_length)["input_ids"]
            self._met[key] = min((self._batches(ids, size) for size in self._sizes), key=self._seconds)
        return self._encoded(self._met[key])

    def _batches(self, ids: list[list[int]], size: int) -> list[tuple[list[int], dict[str, Any]]]:
        """Padded with zeros and masked, as BERT wants it."""
        import torch

        made = []
        for rows in token_batches([len(text) for text in ids], size):
            padded = np.zeros((2, len(rows), len(ids[rows[0]])), np.int64)
            for place, row in enumerate(rows):
                padded[:, place, : len(ids[row])] = ids[row], np.ones(len(ids[row]))
            tokens, mask = torch.from_numpy(padded).to(self._device)
            made.append((rows, {"input_ids": tokens, "attention_mask": mask}))
        return made

    def _seconds(self, batches: list[tuple[list[int], dict[str, Any]]]) -> float:
        self._encoded(batches)
        start = time.perf_counter()
        self._encoded(batches)
        return time.perf_counter() - start

    def _encoded(self, batches: list[tuple[list[int], dict[str, Any]]]) -> np.ndarray:
        import torch

        with torch.inference_mode():
            found = [self._model(dict(each))["sentence_embedding"].float() for _, each in batches]
            vectors = torch.nn.functional.normalize(torch.cat(found)).cpu().numpy()
        in_order = np.empty_like(vectors)
        in_order[[row for rows, _ in batches for row in rows]] = vectors
        return in_order
