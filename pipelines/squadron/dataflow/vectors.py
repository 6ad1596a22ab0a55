"""Vectors: those of rows, as an array. No nodes: it is what looks at rows that were read back."""

import numpy as np
import pyarrow as pa

from squadron.dataflow.records import VECTOR_COLUMN


def vectors_of(rows: pa.Table) -> np.ndarray:
    """`float32 [rows, dimension]`; NaN where a row has no vector. `rows`: as `records.record_schema` says."""
    column = rows[VECTOR_COLUMN].combine_chunks()
    dimension = column.type.list_size
    values = column.values[column.offset * dimension :][: len(column) * dimension].to_numpy(zero_copy_only=False)
    vectors = values.astype(np.float32).reshape(len(column), dimension)
    vectors[column.is_null().to_numpy(zero_copy_only=False)] = np.nan
    return vectors
