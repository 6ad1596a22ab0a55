"""Checks that every store makes before it calls its service."""

import re
from collections.abc import Iterable

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from squadron.errors import StoreError
from squadron.stores.record_schema import VECTOR_COLUMN

MATCH_SCHEMA = pa.schema(
    [
        ("query", pa.int32()),
        ("rank", pa.int32()),
        ("id", pa.string()),
        ("document_id", pa.string()),
        ("title", pa.string()),
        ("text", pa.string()),
        ("score", pa.float32()),
    ]
)
"""What `matches` returns first: one row per query and rank, rank 1 the nearest, higher scores nearer.

score: cosine similarity, inner product, or minus the squared Euclidean distance, by the metric. The generation's
metadata columns follow (`match_schema`).
"""


def match_schema(metadata_columns: Iterable[str]) -> pa.Schema:
    """The columns of `matches` of a generation with these metadata columns, each a string or null."""
    return pa.schema([*MATCH_SCHEMA, *(pa.field(name, pa.string()) for name in metadata_columns)])


def distinct_records(records: pa.Table, dimension: int, generation: str) -> pa.Table:
    """The records, each id once: ids are made of the content, so equal ids are equal rows.

    Raises StoreError when the vectors are of another dimension, or not finite; nothing was sent then.
    """
    vectors = records[VECTOR_COLUMN].combine_chunks()
    width = vectors.type.list_size
    if width != dimension:
        raise StoreError(
            f"generation {generation!r} holds {dimension}-dimensional vectors, these have {width}: nothing was written"
        )
    finite = np.isfinite(vectors.flatten().to_numpy(zero_copy_only=False)).reshape(-1, dimension).all(axis=1)
    if not finite.all():
        row = int(np.flatnonzero(~finite)[0])
        raise StoreError(
            f"the vector of {records['id'][row]} is not finite ({(~finite).sum()} of {len(finite)} are not): "
            "nothing was written"
        )
    if pc.count_distinct(records["id"]).as_py() == records.num_rows:
        return records
    first = {key: row for row, key in reversed(list(enumerate(records["id"].to_pylist())))}
    return records.take(sorted(first.values()))


def checked_filter(filter: dict[str, str], columns: list[str]) -> dict[str, str]:
    """The filter, its names checked against the stored columns, so that none can carry a query's syntax."""
    for name in filter:
        if name not in columns or not re.fullmatch(r"[A-Za-z_]\w*", name):
            raise StoreError(f"there is no stored column {name!r} to filter by: choose from {', '.join(columns)}")
    return filter


def text_columns(schema: pa.Schema) -> list[str]:
    """The columns that searches can be filtered by: those that hold text."""
    return [field.name for field in schema if pa.types.is_string(field.type)]


def refuse_other(generation: str, attribute: str, stored: object, requested: object) -> None:
    """Raise StoreError when a generation is of another dimension or metric than this run's."""
    if stored != requested:
        raise StoreError(
            f"generation {generation!r} has {attribute} {stored}, this run wants {requested}: "
            "choose another collection, or drop that generation and ingest again"
        )
