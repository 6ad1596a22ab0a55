"""Cache: vectors by vector space and text, so that no text is embedded twice.

A folder or an object store that all workers share. Each batch of new vectors is one file that is never changed:
writers cannot meet, and one that is killed leaves nothing but a file that no reader looks at, and that a later run
removes. Every row bears a digest of its vector; a row or a file that was damaged is a miss, not a wrong vector.
"""

import logging
import uuid
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property
from hashlib import blake2b

import fsspec
import numpy as np
import pyarrow as pa
import pyarrow.parquet

from squadron.cache.files import BROKEN, listed, write_table
from squadron.cache.keys import TEXT_BYTES, key_positions, space_digest, text_digest, text_digests

log = logging.getLogger(__name__)

CHECK_BYTES = 8
_FOLDER_BYTES = 8
FILES_HELD = 8


@dataclass(frozen=True)
class _Index:
    """Which texts have vectors, and where. n texts."""

    files: list[str]
    keys: np.ndarray
    """`S16 [n]`: digests of texts, ascending."""
    locations: np.ndarray
    """`int64 [n, 2]`: the number of the file, and the row in it."""


class EmbeddingCache:
    """The vectors of one vector space."""

    def __init__(self, path: str, vector_space: Mapping[str, str]) -> None:
        self._filesystem, root = fsspec.core.url_to_fs(path)
        self._folder = f"{root.rstrip('/')}/{space_digest(vector_space, _FOLDER_BYTES)}"
        self._held: OrderedDict[str, np.ndarray] = OrderedDict()

    @cached_property
    def _index(self) -> "_Index":
        """Which texts there are vectors for, read when it is first asked: a run without changes never does."""
        files = listed(self._filesystem, self._folder, ".parquet")
        keys = [self._read_keys(file) for file in files]
        if not files:
            return _Index([], np.empty(0, f"S{TEXT_BYTES}"), np.empty((0, 2), np.int64))
        locations = [np.stack([np.full(len(k), number), np.arange(len(k))], axis=1) for number, k in enumerate(keys)]
        joined = np.concatenate(keys)
        order = np.argsort(joined, kind="stable")
        return _Index(files, joined[order], np.concatenate(locations)[order])

    def __len__(self) -> int:
        return len(self._index.keys)

    def contains(self, texts: Sequence[str]) -> np.ndarray:
        """`bool [texts]`: which of them there are vectors for, as far as can be told without reading these."""
        if not texts or not len(self._index.keys):
            return np.zeros(len(texts), bool)
        return key_positions(text_digests(texts), self._index.keys)[1]

    def vectors(self, texts: Sequence[str], dimension: int) -> tuple[np.ndarray, np.ndarray]:
        """The vectors there are, `float32 [texts, dimension]`, and which of them, `bool [texts]`."""
        vectors = np.zeros((len(texts), dimension), np.float32)
        is_cached = np.zeros(len(texts), bool)
        if not texts or not len(self._index.keys):
            return vectors, is_cached
        text_keys, keys = text_digests(texts), self._index.keys
        positions, is_listed = key_positions(text_keys, keys)
        while is_listed.any():
            (rows,) = np.nonzero(is_listed)
            locations = self._index.locations[positions[rows]]
            for number in np.unique(locations[:, 0]):
                chosen = locations[:, 0] == number
                stored = self._sound_vectors(number, dimension)[locations[chosen, 1]]
                sound = np.isfinite(stored).all(axis=1)
                vectors[rows[chosen][sound]] = stored[sound]
                is_cached[rows[chosen][sound]] = True
            # Where a vector was damaged, another file may have it, too: equal keys stand beside each other.
            positions = positions + 1
            is_listed &= ~is_cached & (positions < len(keys))
            is_listed[is_listed] = keys[positions[is_listed]] == text_keys[is_listed]
        return vectors, is_cached

    def add(self, texts: Sequence[str], vectors: np.ndarray) -> str:
        """Keep vectors, `float32 [texts, dimension]`, in a file; its name.

        Other processes see them when they next open the cache.
        """
        return self.add_digests([text_digest(text) for text in texts], vectors)

    def add_digests(self, digests: Sequence[bytes], vectors: np.ndarray) -> str:
        """As `add`, for who knows a text by its digest."""
        table = pa.table(
            {
                "text": pa.array(digests, pa.binary(TEXT_BYTES)),
                "check": pa.array([_check(vector) for vector in vectors], pa.binary(CHECK_BYTES)),
                "vector": pa.FixedSizeListArray.from_arrays(pa.array(vectors.ravel()), vectors.shape[1]),
            }
        )
        return write_table(self._filesystem, f"{self._folder}/{uuid.uuid4().hex}.parquet", table)

    def remove(self, files: Sequence[str]) -> None:
        """Remove files; one that cannot be removed does no harm."""
        for file in files:
            with suppress(OSError):
                self._filesystem.rm_file(file)

    def _read_keys(self, file: str) -> np.ndarray:
        try:
            with self._filesystem.open(file, "rb") as opened:
                keys = pyarrow.parquet.read_table(opened, columns=["text"])["text"]
        except FileNotFoundError:  # removed since it was listed: old, or a piece of a batch that is one file now
            return np.empty(0, f"S{TEXT_BYTES}")
        except BROKEN as error:
            log.warning("the cache file %s cannot be read and is passed over: %s", file, error)
            return np.empty(0, f"S{TEXT_BYTES}")
        return np.frombuffer(b"".join(keys.to_pylist()), f"S{TEXT_BYTES}")

    def _sound_vectors(self, number: int, dimension: int) -> np.ndarray:
        """The vectors of a file, NaN where a row is not what was written."""
        file = self._index.files[number]
        if file in self._held:
            self._held.move_to_end(file)
            return self._held[file]
        try:
            with self._filesystem.open(file, "rb") as opened:
                table = pyarrow.parquet.read_table(opened, columns=["check", "vector"])
            flat = table["vector"].combine_chunks().flatten().to_numpy()
            vectors = flat.reshape(table.num_rows, dimension).copy()
            checks = table["check"].to_pylist()
            damaged = np.array([_check(v) != c for v, c in zip(vectors, checks, strict=True)], bool)
        except (*BROKEN, ValueError) as error:
            log.warning("the cache file %s cannot be read and is passed over: %s", file, error)
            rows = int((self._index.locations[:, 0] == number).sum())
            vectors, damaged = np.zeros((rows, dimension), np.float32), np.ones(rows, bool)
        if damaged.any():
            log.warning("%d vectors of the cache file %s are damaged and are embedded again", damaged.sum(), file)
            vectors[damaged] = np.nan
        self._held[file] = vectors
        if len(self._held) > FILES_HELD:
            self._held.popitem(last=False)
        return vectors


def _check(vector: np.ndarray) -> bytes:
    return blake2b(vector.tobytes(), digest_size=CHECK_BYTES).digest()
