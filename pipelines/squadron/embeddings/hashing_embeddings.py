"""Hashing: words hashed into a vector, no model. For tests and demonstrations of the flow.

Feature hashing (Weinberger et al. 2009, arXiv 0902.2206): each word adds +1 or -1 at a place that its digest
names, and the sum is scaled to unit length. Texts that share words are near; meaning plays no part.
"""

import re
from hashlib import blake2b

import numpy as np
from tokenizers import Tokenizer, models, pre_tokenizers

from squadron.settings.embedding_sections import HashingSettings

_WORD = re.compile(r"\w+|[^\w\s]+")


def vector_space(embedding_settings: HashingSettings) -> dict[str, str]:
    """What defines the vectors."""
    return {"service": "hashing", "version": "1", "dimension": str(embedding_settings.dimension)}


def tokenizer() -> Tokenizer:
    """Words and runs of punctuation, all unknown to it: it only counts them."""
    words = Tokenizer(models.WordLevel({"[UNK]": 0}, unk_token="[UNK]"))  # noqa: S106 - not that kind of token
    words.pre_tokenizer = pre_tokenizers.Whitespace()
    return words


def model_max_tokens(embedding_settings: HashingSettings) -> int:
    """Tokens of one text, a limit of choice: hashing itself has none."""
    return embedding_settings.max_tokens


def dimension(embedding_settings: HashingSettings) -> int:
    """Width of the vectors."""
    return embedding_settings.dimension


def model() -> str:
    """There is nothing to load; what there is to report."""
    return "hashing on cpu"


def embeddings(embedding_texts: list[str], dimension: int) -> np.ndarray:
    """`float32 [texts, dimension]`, unit length, in the order given."""
    return _hashed(embedding_texts, dimension)


def query_vectors(query_texts: list[str], dimension: int) -> np.ndarray:
    """`float32 [queries, dimension]`, unit length: queries are hashed like passages."""
    return _hashed(query_texts, dimension)


def device(model: str) -> str:
    """Where the model runs."""
    return model.rpartition(" ")[2]


def _hashed(texts: list[str], dimension: int) -> np.ndarray:
    vectors = np.zeros((len(texts), dimension), np.float32)
    for row, text in enumerate(texts):
        for word in _WORD.findall(text.lower()) or [text]:
            digest = int.from_bytes(blake2b(word.encode(), digest_size=8).digest())
            vectors[row, (digest >> 1) % dimension] += 1 if digest & 1 else -1
        if not vectors[row].any():  # the words cancelled out
            vectors[row, 0] = 1
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
