"""Pinecone's rows: what is stored with a vector, requests within the service's limits, pages of ids."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import orjson
import pyarrow as pa
from pinecone import ScoredVector, UpsertResponse

from squadron.errors import StoreError
from squadron.stores.pinecone.catalog import MAX_METADATA_BYTES
from squadron.stores.pinecone.connection import Connection, Place
from squadron.stores.pinecone.requests import PartlyWrittenError
from squadron.stores.record_schema import VECTOR_COLUMN

ROWS_PER_WRITE, BYTES_PER_WRITE = 1_000, 2_000_000
FEWEST_ROWS_PER_WRITE = 64
BYTES_PER_VALUE, BYTES_PER_ROW = 16, 100
IDS_PER_PAGE = 100
TEXT_COLUMNS = ("document_id", "title", "text")
_ID_STARTS = "0123456789abcdef"


@dataclass(frozen=True)
class Namespace:
    """A generation."""

    connection: Connection
    place: Place
    name: str
    dimension: int
    columns: tuple[str, ...]
    """Metadata columns."""


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
    rows = min(ROWS_PER_WRITE, max(FEWEST_ROWS_PER_WRITE, -(-len(metadata_bytes) // concurrency)))
    most_without_metadata = dimension * BYTES_PER_VALUE + BYTES_PER_ROW
    start = total = 0
    for position, size in enumerate(most_without_metadata + length for length in metadata_bytes):
        if position - start == rows or (position > start and total + size > BYTES_PER_WRITE):
            yield start, position
            start, total = position, 0
        total += size
    yield start, len(metadata_bytes)


def write(namespace: Namespace, batch: Rows) -> int:
    """The number of rows written, all those of the batch, in one request."""
    # One batch at a time: the first is under way while the next is made, rather than all made at once, late.
    with namespace.connection.making:
        vectors = list(zip(batch.ids, map(encoded, batch.vectors), batch.metadata, strict=True))

    def upsert() -> UpsertResponse:
        response = namespace.place.index.upsert(vectors=vectors, namespace=namespace.name)
        if response.upserted_count != len(vectors):
            raise PartlyWrittenError(f"the service took {response.upserted_count} of {len(vectors)} rows")
        return response

    response = namespace.connection.call(f"writing {len(vectors)} rows", upsert)
    namespace.connection.committed(namespace.place, namespace.name, response)
    return len(vectors)


def encoded(vector: np.ndarray) -> list[Any]:
    """A float32 vector as a list for the client: of one element, all its numbers in JSON.

    The client encodes by orjson, which takes what is JSON already. From float32 it has half the digits that
    Python's floats have, in half the time; each reads back as the same float32.
    """
    return [orjson.Fragment(orjson.dumps(vector, option=orjson.OPT_SERIALIZE_NUMPY)[1:-1])]


def unwritten(namespace: Namespace, failures: Sequence[tuple[list[str], BaseException]]) -> BaseException:
    """The error for batches, given by their ids, that failed."""
    for _, error in failures:
        if not isinstance(error, StoreError):
            return error
    ids = [key for part, _ in failures for key in part]
    more = f" and {len(ids) - 5} more" if len(ids) > 5 else ""
    reasons = "; ".join(dict.fromkeys(str(error) for _, error in failures))
    return StoreError(f"{len(ids)} rows were not written to {namespace.name!r}, {', '.join(ids[:5])}{more}: {reasons}")


def fetched(namespace: Namespace, ids: list[str]) -> list[dict[str, Any]]:
    """The rows with these ids that are there."""
    fetch = partial(namespace.place.index.fetch, ids=ids, namespace=namespace.name)
    found = namespace.connection.call(f"reading from {namespace.name}", fetch).vectors
    return [{"id": key, VECTOR_COLUMN: row.values, **_columns(row.metadata or {})} for key, row in found.items()]


def existing(namespace: Namespace, ids: list[str]) -> list[str]:
    """Those of the ids that are there."""
    fetch = partial(namespace.place.index.fetch, ids=ids, namespace=namespace.name)
    return list(namespace.connection.call(f"reading from {namespace.name}", fetch).vectors)


def delete(namespace: Namespace, ids: list[str]) -> None:
    """Delete rows."""
    request = partial(namespace.place.index.delete, ids=ids, namespace=namespace.name)
    namespace.connection.call(f"deleting {len(ids)} rows of {namespace.name}", request)


def pages(namespace: Namespace) -> Iterator[pa.Array]:
    """All ids, streamed: sixteen listings beside each other, by the first digit of the id."""
    connection = namespace.connection
    tasks = {connection.submit(_page, namespace, start, None) for start in _ID_STARTS}
    for task in connection.finished(tasks):
        start, ids, following = task.result()
        if following:
            tasks.add(connection.submit(_page, namespace, start, following))
        yield ids


def match_row(namespace: Namespace, query: int, rank: int, match: ScoredVector, metric: str) -> dict[str, Any]:
    """A match as a row of `record_checks.match_schema`."""
    metadata = match.metadata or {}
    # By l2 Pinecone returns the squared distance, the smallest first.
    score = -match.score if metric == "l2" else match.score
    return {"query": query, "rank": rank, "id": match.id, "score": score} | {
        name: metadata.get(name) for name in (*TEXT_COLUMNS, *namespace.columns)
    }


def _columns(metadata: dict[str, Any]) -> dict[str, Any]:
    """Metadata as they were written; Pinecone's numbers are floats."""
    return {name: int(value) if name == "ordinal" else value for name, value in metadata.items()}


def _page(namespace: Namespace, start: str, token: str | None) -> tuple[str, pa.Array, str | None]:
    listing = partial(
        namespace.place.index.list_paginated,
        prefix=start,
        limit=IDS_PER_PAGE,
        pagination_token=token,
        namespace=namespace.name,
    )
    page = namespace.connection.call(f"listing {namespace.name}", listing)
    ids = pa.array([item.id for item in page.vectors], pa.string())
    return start, ids, page.pagination.next if page.pagination else None
