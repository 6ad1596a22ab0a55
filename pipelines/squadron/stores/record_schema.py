"""Records: what a store's rows have, in every store the same columns."""

from collections.abc import Sequence

import numpy as np
import pyarrow as pa

VECTOR_COLUMN = "vector"
RECORD_COLUMNS = ("id", "document_id", "title", "ordinal", "text", VECTOR_COLUMN)
"""What every record has, beside the metadata columns."""


def record_schema(dimension: int, metadata_columns: Sequence[str]) -> pa.Schema:
    """The columns of a record, as `stored_rows` returns them."""
    return pa.schema(
        [
            pa.field("id", pa.string(), nullable=False),
            pa.field("document_id", pa.string()),
            pa.field("title", pa.string()),
            pa.field("ordinal", pa.int32()),
            pa.field("text", pa.string()),
            *(pa.field(name, pa.string()) for name in metadata_columns),
            pa.field(VECTOR_COLUMN, pa.list_(pa.float32(), dimension)),
        ]
    )


def vectors_of(rows: pa.Table) -> np.ndarray:
    """`float32 [rows, dimension]`; NaN where a row has no vector. `rows`: as `record_schema` says."""
    column = rows[VECTOR_COLUMN].combine_chunks()
    dimension = column.type.list_size
    values = column.values[column.offset * dimension :][: len(column) * dimension].to_numpy(zero_copy_only=False)
    vectors = values.astype(np.float32).reshape(len(column), dimension)
    vectors[column.is_null().to_numpy(zero_copy_only=False)] = np.nan
    return vectors
