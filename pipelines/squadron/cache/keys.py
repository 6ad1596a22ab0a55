"""Keys: what texts and vector spaces are known by, in the cache, in batch jobs and in the names of generations."""

from collections.abc import Iterable, Mapping
from hashlib import blake2b

import numpy as np

TEXT_BYTES = 16


def text_digest(text: str) -> bytes:
    """The key of a text: 16 bytes."""
    return blake2b(text.encode("utf-8", "surrogatepass"), digest_size=TEXT_BYTES).digest()


def text_digests(texts: Iterable[str]) -> np.ndarray:
    """`S16 [texts]`: the keys of texts."""
    return np.array([text_digest(text) for text in texts], f"S{TEXT_BYTES}")


def space_digest(vector_space: Mapping[str, str], digest_bytes: int = 16) -> str:
    """The key of a vector space, in hex digits; equal spaces have equal keys, whatever the order of their entries."""
    return blake2b(repr(sorted(vector_space.items())).encode(), digest_size=digest_bytes).hexdigest()


def key_positions(wanted_keys: np.ndarray, keys: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Where each wanted key stands among the keys, which ascend, and whether it does: `int64` and `bool`."""
    if not len(keys):
        return np.zeros(len(wanted_keys), np.int64), np.zeros(len(wanted_keys), bool)
    positions = np.minimum(np.searchsorted(keys, wanted_keys), len(keys) - 1)
    return positions, keys[positions] == wanted_keys
