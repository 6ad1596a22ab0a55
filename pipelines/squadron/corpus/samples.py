"""Samples: a fixed share of a stream of rows, which depends neither on their order nor on their batches."""

from collections.abc import Sequence

import numpy as np
import pyarrow as pa


class BottomSample:
    """The rows with the smallest keys (bottom-k sampling), one for each key.

    Keys are digests: the sample is drawn evenly from all rows, and stays nearly the same when a few of them change, so
    that figures of two runs can be compared.
    """

    def __init__(self, size: int, schema: pa.Schema, tie_columns: Sequence[str]) -> None:
        """`size`: rows at most; `tie_columns`: of rows with equal keys, the one with the smallest values is taken."""
        self._size = size
        self._order = [(name, "ascending") for name in ("key", *tie_columns)]
        self._rows = schema.append(pa.field("key", pa.uint64())).empty_table()
        self._largest_key = np.iinfo(np.uint64).max

    def add(self, keys: np.ndarray, rows: pa.Table) -> None:
        """Take the rows of a batch; `keys`: `uint64 [rows]`."""
        small = keys <= self._largest_key
        if not self._size or not small.any():
            return
        candidates = rows.select(self._rows.column_names[:-1]).filter(pa.array(small))
        candidates = pa.concat_tables([self._rows, candidates.append_column("key", pa.array(keys[small]))])
        candidates = candidates.sort_by(self._order)
        _, first = np.unique(candidates["key"].to_numpy(), return_index=True)
        self._rows = candidates.take(pa.array(first[: self._size]))
        if self._rows.num_rows == self._size:
            self._largest_key = self._rows["key"][-1].as_py()

    def table(self) -> pa.Table:
        """The sample, by ascending key."""
        return self._rows.drop_columns(["key"]).combine_chunks()
