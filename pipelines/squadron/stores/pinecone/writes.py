"""Pinecone's writes: rows in requests within the service's limits, several under way at once."""

from collections.abc import Iterator, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Any

import numpy as np
import orjson
import pyarrow as pa
from pinecone import UpsertResponse

from squadron.errors import StoreError
from squadron.stores.batches import row_batches
from squadron.stores.pinecone.catalog import MAX_METADATA_BYTES
from squadron.stores.pinecone.requests import PartlyWrittenError
from squadron.stores.pinecone.rows import TEXT_COLUMNS, Namespace
from squadron.stores.record_schema import VECTOR_COLUMN

ROWS_PER_WRITE, BYTES_PER_WRITE = 1_000, 2_000_000
FEWEST_ROWS_PER_WRITE = 64
BYTES_PER_VALUE, BYTES_PER_ROW = 16, 100


@dataclass(frozen=True)
class Rows:
    """Rows to be stored."""

    ids: list[str]
    vectors: np.ndarray
    """`float32 [ids, dimension]`."""
    metadata: list[dict[str, Any]]

    def part(self, start: int, stop: int) -> "Rows":
        """The rows from the one number to before the other."""
        return Rows(self.ids[start:stop], self.vectors[start:stop], self.metadata[start:stop])


def rows_of(records: pa.Table, columns: Sequence[str]) -> Rows:
    """The records as rows. Null is not a value in Pinecone: it is left out of the metadata."""
    names = [name for name in (*TEXT_COLUMNS, "ordinal", *columns) if name in records.column_names]
    values = zip(*(records[name].to_pylist() for name in names), strict=True)
    metadata: list[dict[str, Any]] = [dict(zip(names, row, strict=True)) for row in values]
    if any(records[name].null_count for name in names):
        metadata = [{name: value for name, value in row.items() if value is not None} for row in metadata]
    vectors = records[VECTOR_COLUMN].combine_chunks().flatten().to_numpy(zero_copy_only=False)
    return Rows(records["id"].to_pylist(), vectors.reshape(records.num_rows, -1), metadata)


def metadata_bytes(rows: Rows) -> list[int]:
    """How long each row's metadata are in JSON.

    Raises StoreError, naming the passage, when a row's are longer than Pinecone takes.
    """
    sizes = [len(orjson.dumps(metadata)) for metadata in rows.metadata]
    if max(sizes) > MAX_METADATA_BYTES:
        row = next(row for row, size in enumerate(sizes) if size > MAX_METADATA_BYTES)
        raise StoreError(
            f"passage {rows.ids[row]} has {sizes[row]:,} bytes of text and metadata, Pinecone stores "
            f"{MAX_METADATA_BYTES:,} with a vector: lower passages.max_tokens, or choose another store. "
            "Nothing of its batch was written"
        )
    return sizes


def batches(metadata_bytes: Sequence[int], dimension: int, concurrency: int) -> Iterator[tuple[int, int]]:
    """Row numbers, from and to: requests within the limits, and enough of them to keep all connections busy."""
    max_rows = min(ROWS_PER_WRITE, max(FEWEST_ROWS_PER_WRITE, -(-len(metadata_bytes) // concurrency)))
    most_without_metadata = dimension * BYTES_PER_VALUE + BYTES_PER_ROW
    return row_batches([most_without_metadata + size for size in metadata_bytes], max_rows, BYTES_PER_WRITE)


def write_all(namespace: Namespace, records: pa.Table) -> int:
    """The number of rows written, in requests that are under way beside each other.

    Raises StoreError, before anything is written, when a row's texts are more than Pinecone stores; afterwards, with
    ids and reasons, when requests failed.
    """
    connection, rows = namespace.connection, rows_of(records, namespace.columns)
    tasks: dict[Future[int], list[str]] = {}
    for start, stop in batches(metadata_bytes(rows), namespace.dimension, connection.settings.concurrency):
        batch = rows.part(start, stop)
        tasks[connection.submit(write, namespace, batch)] = batch.ids
    errors = [(tasks[task], error) for task in connection.finished(set(tasks)) if (error := task.exception())]
    if errors:
        raise _unwritten(namespace, errors)
    return sum(task.result() for task in tasks)


def write(namespace: Namespace, batch: Rows) -> int:
    """The number of rows written: the whole batch, in one request."""
    # One batch at a time: the first is under way while the next is made, rather than all made at once, late.
    with namespace.connection.making:
        vectors = list(zip(batch.ids, map(encoded, batch.vectors), batch.metadata, strict=True))

    def upsert() -> UpsertResponse:
        response = namespace.index.handle.upsert(vectors=vectors, namespace=namespace.name)
        if response.upserted_count != len(vectors):
            raise PartlyWrittenError(f"the service took {response.upserted_count} of {len(vectors)} rows")
        return response

    response = namespace.connection.call(f"writing {len(vectors)} rows", upsert)
    namespace.connection.committed(namespace.index, namespace.name, response)
    return len(vectors)


def encoded(vector: np.ndarray) -> list[Any]:
    """A float32 vector as a list for the client: of one element, all its numbers in JSON.

    The client encodes by orjson, which takes what is JSON already. From float32 it has half the digits that
    Python's floats have, in half the time; each reads back as the same float32.
    """
    return [orjson.Fragment(orjson.dumps(vector, option=orjson.OPT_SERIALIZE_NUMPY)[1:-1])]


def _unwritten(namespace: Namespace, failures: Sequence[tuple[list[str], BaseException]]) -> BaseException:
    """The error for batches, given by their ids, that failed."""
    for _, error in failures:
        if not isinstance(error, StoreError):
            return error
    ids = [key for part, _ in failures for key in part]
    more = f" and {len(ids) - 5} more" if len(ids) > 5 else ""
    reasons = "; ".join(dict.fromkeys(str(error) for _, error in failures))
    return StoreError(f"{len(ids)} rows were not written to {namespace.name!r}, {', '.join(ids[:5])}{more}: {reasons}")
