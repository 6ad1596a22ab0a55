"""torch: SentenceTransformer itself, the reference. It runs every model, on GPUs too; importing it takes seconds."""

import logging
import os
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from tokenizers import Encoding, Tokenizer

from squadron.embeddings.local.token_batches import token_batches
from squadron.embeddings.local.usable_cores import usable_cores
from squadron.errors import EmbeddingError, SettingsError
from squadron.process.prefetch import prefetched

log = logging.getLogger(__name__)

_BATCH_TOKENS = 4096
# A GPU is fed by calls that keep it busy for longer than the next one takes to prepare.
_GPU_BATCH_TOKENS = 65_536
# The model waits for the first texts' tokens only; more texts at a time are sorted with less padding.
_FIRST_TEXTS, _TEXTS_AT_A_TIME = 1024, 2048
_BATCHES_AHEAD = 4
_PROBE = "A probe: 1 text."
_PLAIN = {"input_ids", "token_type_ids", "attention_mask"}
Tensors = dict[str, Any]


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
        self._plain = _plain_tokenizer(self._model.tokenizer, self._model.max_seq_length)
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
            batches = computing.enter_context(prefetched(self._batches(texts), _BATCHES_AHEAD))
            order: list[int] = []
            computed = []
            for rows, tokens in batches:
                order += rows
                computed.append(self._computed(tokens))
            if computed:
                vectors[order] = torch.nn.functional.normalize(torch.cat(computed)).cpu().numpy()
        return vectors

    def _computed(self, tokens: Tensors) -> Any:
        """The vectors of a call, which is divided where the device's memory does not hold it."""
        try:
            return self._model(self._features(tokens))["sentence_embedding"].float()
        except self._torch.OutOfMemoryError as error:
            texts, width = tokens["input_ids"].shape
            if texts == 1:
                reason = str(error).partition("\n")[0]
                raise EmbeddingError(
                    f"{self._model.device} has no memory left for one text of {width} tokens: {reason} "
                    "Free some of it, set embedding.sentence_transformers.device to cpu, or lower passages.max_tokens"
                ) from error
        # No exception keeps what was computed so far any more.
        self._batch_tokens = min(self._batch_tokens, max(1, texts * width // 2))
        log.warning(
            "%s has no memory for %d tokens a call: %d it is", self._model.device, texts * width, self._batch_tokens
        )
        if self._on_gpu:
            self._torch.cuda.empty_cache()
        halves = slice(0, texts // 2), slice(texts // 2, None)
        return self._torch.cat([self._computed({name: each[half] for name, each in tokens.items()}) for half in halves])

    def _batches(self, texts: list[str]) -> Iterator[tuple[list[int], Tensors]]:
        """The rows of each call, and their tokens, padded to the longest."""
        with prefetched(self._parts(texts), most=1) as parts:  # most of it needs no interpreter: both work at once
            for start, lengths, padded in parts:
                for rows in token_batches(lengths, self._batch_tokens):
                    tokens = padded(rows)
                    if self._on_gpu:
                        tokens = {name: each.pin_memory() for name, each in tokens.items()}
                    yield [start + row for row in rows], tokens

    def _parts(self, texts: list[str]) -> Iterator[tuple[int, list[int], Callable[[list[int]], Tensors]]]:
        """Of some texts at a time the place of the first, the tokens' numbers, and what pads those of some rows."""
        start = 0
        while start < len(texts):
            part = texts[start : start + (_TEXTS_AT_A_TIME if start else _FIRST_TEXTS)]
            if self._plain:
                encodings = self._plain.encode_batch_fast(part)
                yield start, [len(text) for text in encodings], partial(self._padded, encodings)
            else:
                tokens = self._model.tokenizer(part, truncation=True, max_length=self._model.max_seq_length)
                yield start, [len(ids) for ids in tokens["input_ids"]], partial(self._padded_slowly, tokens)
            start += len(part)

    def _padded(self, encodings: list[Encoding], rows: list[int]) -> Tensors:
        lengths = np.array([len(encodings[row]) for row in rows], np.int32)
        ids = np.full((len(rows), lengths.max()), self._model.tokenizer.pad_token_id or 0, np.int32)
        for line, row in enumerate(rows):
            ids[line, : lengths[line]] = encodings[row].ids
        return {"input_ids": self._torch.from_numpy(ids), "lengths": self._torch.from_numpy(lengths)}

    def _padded_slowly(self, tokens: Mapping[str, list[list[int]]], rows: list[int]) -> Tensors:
        """As transformers does it, whatever the tokenizer: twenty times slower."""
        chosen = {name: [values[row] for row in rows] for name, values in tokens.items()}
        return dict(self._model.tokenizer.pad(chosen, return_tensors="pt"))

    def _features(self, tokens: Tensors) -> Tensors:
        """The tokens as the model takes them, where it runs."""
        there = {name: each.to(self._model.device, non_blocking=True) for name, each in tokens.items()}
        if "lengths" not in there:
            return there
        ids, lengths = there["input_ids"].long(), there["lengths"][:, None]
        positions = self._torch.arange(ids.shape[1], device=ids.device)
        return {"input_ids": ids, "attention_mask": (positions < lengths).long()}


def _plain_tokenizer(tokenizer: Any, max_tokens: int | None) -> Tokenizer | None:
    """The tokenizer below that of transformers, where tokens are nothing but ids; that takes a tenth of the time."""
    if not getattr(tokenizer, "is_fast", False) or tokenizer.padding_side != "right":
        return None
    plain = Tokenizer.from_str(tokenizer.backend_tokenizer.to_str())
    plain.no_padding()
    plain.enable_truncation(
        min(max_tokens or sys.maxsize, tokenizer.model_max_length), direction=tokenizer.truncation_side
    )
    output = tokenizer([_PROBE])
    same = output["input_ids"] == [plain.encode(_PROBE).ids]
    return plain if same and set(output) <= _PLAIN and not any(map(any, output.get("token_type_ids", []))) else None


def _check(device: str) -> None:
    import torch

    if (device == "cuda" and not torch.cuda.is_available()) or (
        device == "mps" and not torch.backends.mps.is_available()
    ):
        raise EmbeddingError(
            f"embedding.sentence_transformers.device is {device!r}, but torch {torch.__version__} finds none here: "
            "set it to auto or cpu, or install a torch that has it"
        )
