"""Batches: ids and rows in the portions that one request takes."""

from collections.abc import Iterator, Sequence

import pyarrow as pa


def id_batches(ids: pa.Array, size: int) -> Iterator[list[str]]:
    """The ids, at most `size` of them at a time."""
    for start in range(0, len(ids), size):
        yield ids[start : start + size].to_pylist()


def row_batches(row_bytes: Sequence[int], max_rows: int, max_bytes: int) -> Iterator[tuple[int, int]]:
    """Row numbers, from and to: at most `max_rows` of them at a time, and `max_bytes` together or a single row."""
    start = total = 0
    for row, size in enumerate(row_bytes):
        if row > start and (row - start == max_rows or total + size > max_bytes):
            yield start, row
            start, total = row, 0
        total += size
    yield start, len(row_bytes)
