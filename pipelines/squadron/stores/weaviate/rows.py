"""Weaviate's rows: what goes into one message and comes out of one page.

A batch does not fail as a whole: each object has an outcome of its own. Those that the server refused are sent again,
then reported.
"""

from collections.abc import Iterator
from functools import partial
from typing import Any
from uuid import UUID

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from google.protobuf.struct_pb2 import Struct, Value  # type: ignore[import-untyped]
from weaviate.classes.query import Filter
from weaviate.proto.v1 import batch_pb2, search_get_pb2

from squadron.errors import StoreError
from squadron.stores.batches import row_batches
from squadron.stores.record_schema import VECTOR_COLUMN
from squadron.stores.weaviate.requests import RefusedRowsError, answered, called, repeated_while_refused
from squadron.stores.weaviate.schema import COLUMNS, VECTOR, Generation, class_name, stored_name

# The server works on the messages that arrive together: several small ones are written sooner than a large one.
ROWS_PER_MESSAGE, BYTES_PER_MESSAGE = 128, 8_000_000
BYTES_BESIDES = 400
"""What a row takes besides its vector and texts, about: the uuid, the names of its columns."""
IDS_PER_PAGE = 2_000
ROWS_PER_FETCH = 500
IDS_PER_DELETE = 2_000
"""One call deletes 10,000 rows at most, QUERY_MAXIMUM_RESULTS of the server."""


def messages(records: pa.Table, message_bytes: int) -> Iterator[pa.Table]:
    """The records, cut to what is sent at once to a server that takes messages of this size."""
    limit = min(BYTES_PER_MESSAGE, message_bytes // 2)
    texts = [column for column in records.columns if pa.types.is_string(column.type)]
    lengths = sum(pc.fill_null(pc.binary_length(column), 0).to_numpy().astype(np.int64) for column in texts)
    sizes = lengths + BYTES_BESIDES + 4 * records[VECTOR_COLUMN].type.list_size
    for start, stop in row_batches(sizes.tolist(), ROWS_PER_MESSAGE, limit):
        yield records.slice(start, stop - start)


def write(generation: Generation, records: pa.Table) -> dict[str, str]:
    """Write the records, and refused ones again; the reasons of those that stay refused, by id."""
    connection, objects = generation.connection, _objects(generation, records)

    def send() -> dict[str, str]:
        nonlocal objects
        doing = f"write {len(objects)} rows to {generation.name!r}"
        reply = called(connection, doing, "BatchObjects", batch_pb2.BatchObjectsRequest(objects=objects))
        objects = [objects[failed.index] for failed in reply.errors]
        if objects:
            reasons = [failed.error for failed in reply.errors]
            raise RefusedRowsError({_id(row.uuid): reason for row, reason in zip(objects, reasons, strict=True)})
        return {}

    try:
        return repeated_while_refused(connection, send)
    except RefusedRowsError as refused:
        return refused.reasons


def delete(generation: Generation, ids: list[str]) -> int:
    """Delete the rows; how many there were. Raises StoreError when some are still there after all attempts."""
    connection, deleted, left = generation.connection, 0, 0
    these = Filter.by_id().contains_any([_uuid(key) for key in ids])
    call = partial(generation.rows.data.delete_many, where=these, verbose=True)

    def send() -> None:
        nonlocal deleted, left
        reply = answered(connection, f"delete {len(ids)} rows of {generation.name!r}", call)
        outcomes: list[Any] = reply.objects or []
        deleted, left = deleted + reply.successful, reply.matches - reply.successful
        if left > 0:
            raise RefusedRowsError({one.uuid: str(one.error) for one in outcomes if not one.successful})

    try:
        repeated_while_refused(connection, send)
    except RefusedRowsError as refused:
        raise StoreError(f"{left} rows were not deleted from {generation.name!r}: {refused}") from None
    return deleted


def ids_between(generation: Generation, borders: tuple[int, int]) -> list[pa.Array]:
    """The ids from the first border on and below the second, by pages. Weaviate lists objects by uuid, ascending."""
    pages, (start, end) = [], borders
    after = start - 1
    while True:
        request = search_get_pb2.SearchRequest(
            uses_123_api=True,
            uses_125_api=True,
            uses_127_api=True,
            collection=class_name(generation.name),
            limit=IDS_PER_PAGE,
            after=str(UUID(int=after)) if after > 0 else "",
            properties=search_get_pb2.PropertiesRequest(),
            metadata=search_get_pb2.MetadataRequest(uuid=True),
        )
        page = called(generation.connection, f"list {generation.name!r}", "Search", request).results
        ids = [int.from_bytes(found.metadata.id_as_bytes) for found in page]
        pages.append(pa.array([f"{key:032x}" for key in ids if key < end], pa.string()))
        if len(ids) < IDS_PER_PAGE or ids[-1] >= end:
            return pages
        after = ids[-1]


def fetched(generation: Generation, ids: list[str]) -> list[dict[str, Any]]:
    """The rows with these ids that are there."""
    names = [*COLUMNS, *generation.metadata_columns]
    call = partial(
        generation.rows.query.fetch_objects,
        filters=Filter.by_id().contains_any([_uuid(key) for key in ids]),
        limit=len(ids),
        include_vector=True,
        return_properties=[stored_name(name) for name in names],
    )
    objects: list[Any] = answered(generation.connection, f"read rows of {generation.name!r}", call).objects
    return [
        {"id": row.uuid.hex, VECTOR_COLUMN: row.vector[VECTOR]}
        | {name: row.properties.get(stored_name(name)) for name in names}
        for row in objects
    ]


def _objects(generation: Generation, records: pa.Table) -> list[batch_pb2.BatchObject]:
    stored_columns = (*COLUMNS, *generation.metadata_columns)
    names = [name for name in records.column_names if name in stored_columns]
    properties = [stored_name(name) for name in names]
    columns = [_values(records[name]) for name in names]
    vectors = records[VECTOR_COLUMN].combine_chunks().flatten().to_numpy().astype("<f4", copy=False).tobytes()
    size = len(vectors) // records.num_rows
    objects = []
    for row, (key, *values) in enumerate(zip(records["id"].to_pylist(), *columns, strict=True)):
        fields = {name: value for name, value in zip(properties, values, strict=True) if value is not None}
        stored = batch_pb2.BatchObject.Properties(non_ref_properties=Struct(fields=fields))
        vector = vectors[row * size : (row + 1) * size]
        objects.append(
            batch_pb2.BatchObject(
                collection=class_name(generation.name), uuid=_uuid(key), vector_bytes=vector, properties=stored
            )
        )
    return objects


def _values(column: pa.ChunkedArray) -> list[Value | None]:
    if pa.types.is_string(column.type):
        return [None if value is None else Value(string_value=value) for value in column.to_pylist()]
    return [None if value is None else Value(number_value=value) for value in column.to_pylist()]


def _uuid(key: str) -> str:
    return f"{key[:8]}-{key[8:12]}-{key[12:16]}-{key[16:20]}-{key[20:]}"


def _id(uuid: str) -> str:
    return uuid.replace("-", "")
