"""Digests: of texts, many at once; held by the million in twelve bytes each, and looked up by bisection."""

import sys
from collections.abc import Iterable
from dataclasses import dataclass
from hashlib import blake2b
from itertools import pairwise

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

DIGEST_BYTES = 12
_CONTENT_BITS = 16
"""Of a digest's first 64 bits, those that are not of the document's id."""
_MOST_BYTES = 1 << 30
_HEX_DIGITS = np.frombuffer(b"0123456789abcdef", np.uint8)
_NO_DIGIT = 0xFF
_HEX_VALUES = np.full(256, _NO_DIGIT, np.uint8)
_HEX_VALUES[_HEX_DIGITS] = np.arange(16)


@dataclass(frozen=True)
class Digests:
    """Document digests of 12 bytes, n of them."""

    high: np.ndarray
    """`uint64 [n]`: the first eight bytes."""
    low: np.ndarray
    """`uint32 [n]`: the last four."""

    @classmethod
    def read(cls, raw: np.ndarray) -> "Digests":
        """From `uint8 [n, 12]`."""
        high, low = raw[:, :8].copy().view(np.uint64), raw[:, 8:DIGEST_BYTES].copy().view(np.uint32)
        if sys.byteorder == "little":
            high, low = high.byteswap(inplace=True), low.byteswap(inplace=True)
        return cls(high.ravel(), low.ravel())

    @classmethod
    def of_column(cls, column: pa.ChunkedArray) -> "Digests":
        """From a column of 12 bytes a value, without nulls."""
        values = column.combine_chunks()
        raw = np.frombuffer(values.buffers()[1] or b"", np.uint8)[values.offset * DIGEST_BYTES :]
        return cls.read(raw[: len(values) * DIGEST_BYTES].reshape(-1, DIGEST_BYTES))

    @classmethod
    def joined(cls, parts: Iterable["Digests"]) -> "Digests":
        """All parts, one after the other."""
        every = [cls(np.empty(0, np.uint64), np.empty(0, np.uint32)), *parts]
        return cls(np.concatenate([part.high for part in every]), np.concatenate([part.low for part in every]))

    def __len__(self) -> int:
        return len(self.high)

    def __getitem__(self, chosen: np.ndarray) -> "Digests":
        return Digests(self.high[chosen], self.low[chosen])

    def order(self) -> np.ndarray:
        """`int64 [n]`: the permutation that sorts them; equal ones stay in their order."""
        return np.lexsort((self.low, self.high))

    def identities(self) -> np.ndarray:
        """`uint64 [n]`: the half that stands for the document's id, in which all its versions agree."""
        return self.high >> np.uint64(_CONTENT_BITS)

    def positions(self, others: "Digests") -> np.ndarray:
        """`int64 [others]`: where each stands in these, which ascend; -1: nowhere."""
        if not len(self):
            return np.full(len(others), -1)
        last = len(self) - 1
        at = np.minimum(np.searchsorted(self.high, others.high), last)
        while (behind := (self.high[at] == others.high) & (self.low[at] < others.low) & (at < last)).any():
            at += behind
        return np.where((self.high[at] == others.high) & (self.low[at] == others.low), at, -1)


class DigestSet:
    """A set of digests that grows: sorted runs, each more than twice as long as the next."""

    def __init__(self) -> None:
        self._runs: list[Digests] = []

    def __len__(self) -> int:
        return sum(map(len, self._runs))

    def contains(self, others: Digests) -> np.ndarray:
        """`bool [others]`: which of them are in it."""
        contained = np.zeros(len(others), bool)
        for run in self._runs:
            contained |= run.positions(others) >= 0
        return contained

    def add(self, new: Digests) -> None:
        """Take digests, distinct ones that are not in it."""
        while self._runs and len(self._runs[-1]) <= 2 * len(new):
            new = Digests.joined([self._runs.pop(), new])
        if len(new):
            self._runs.append(new[new.order()])

    def everything(self) -> Digests:
        """All digests, in no order."""
        return Digests.joined(self._runs)


def joined_values(columns: list[pa.Array]) -> pa.Array:
    """The values of each row in one text. Lengths in characters stand before them: no two rows look alike."""
    parts: list[pa.Array | pa.Scalar] = []
    for column in columns:
        filled = pc.fill_null(column, "") if column.null_count else column
        parts += [pc.utf8_length(filled).cast(pa.string()), pa.scalar(":"), filled]
    return concatenated(parts)


def concatenated(columns: list[pa.Array | pa.Scalar]) -> pa.Array:
    """The texts of each row in one, which together may be longer than the 2 GiB of a string array."""
    wide = sum(column.nbytes for column in columns if isinstance(column, pa.Array)) > _MOST_BYTES
    text = pa.large_string() if wide else pa.string()
    return pc.binary_join_element_wise(*(column.cast(text) for column in columns), pa.scalar("", text))


def hashed(texts: pa.Array, size: int) -> list[bytes]:
    """The BLAKE2b digest of each text, of `size` bytes, without a Python string for any of them."""
    if not len(texts):
        return []
    _, ends, data = texts.buffers()
    offsets = np.frombuffer(ends, np.int64 if pa.types.is_large_string(texts.type) else np.int32)
    borders = offsets[texts.offset :][: len(texts) + 1].tolist()
    text = memoryview(data or b"")
    return [blake2b(text[start:end], digest_size=size).digest() for start, end in pairwise(borders)]


def from_hex(texts: pa.Array, digits: int) -> tuple[np.ndarray, int]:
    """The values as `uint8 [n, digits / 2]`, up to the first that is not `digits` lower-case hex digits.

    Second, that one's position; -1: there is none.
    """
    values = texts.cast(pa.large_string())
    foreign = pc.index(pc.fill_null(pc.equal(pc.binary_length(values), digits), False), False).as_py()
    values = values.slice(0, foreign if foreign >= 0 else None)
    if not len(values):
        return np.empty((0, digits // 2), np.uint8), foreign
    start = np.frombuffer(values.buffers()[1], np.int64)[values.offset]
    characters = np.frombuffer(values.buffers()[2], np.uint8)[start : start + digits * len(values)]
    nibbles = _HEX_VALUES[characters].reshape(-1, digits)
    (wrong,) = np.nonzero((nibbles == _NO_DIGIT).any(axis=1))
    if len(wrong):
        foreign, nibbles = int(wrong[0]), nibbles[: wrong[0]]
    return nibbles[:, 0::2] << 4 | nibbles[:, 1::2], foreign


def as_keys(raw: np.ndarray) -> np.ndarray:
    """`uint8 [n, bytes]` as `S [n]`: values that sort and compare as a whole."""
    return np.ascontiguousarray(raw).view(f"S{raw.shape[1]}").ravel()


def to_hex(raw: np.ndarray) -> pa.StringArray:
    """The rows of `uint8 [n, bytes]` as lower-case hex digits."""
    digits = np.empty((len(raw), 2 * raw.shape[1]), np.uint8)
    digits[:, 0::2] = _HEX_DIGITS[raw >> 4]
    digits[:, 1::2] = _HEX_DIGITS[raw & 0xF]
    offsets = np.arange(len(raw) + 1, dtype=np.int32) * digits.shape[1]
    return pa.StringArray.from_buffers(len(raw), pa.py_buffer(offsets), pa.py_buffer(digits))
