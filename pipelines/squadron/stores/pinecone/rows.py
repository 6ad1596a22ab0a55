"""Pinecone's rows: how a namespace is read, listed, counted, and rows are deleted from it."""

import logging
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any

import pyarrow as pa

from squadron.stores.pinecone.connection import Connection, VectorIndex
from squadron.stores.record_schema import VECTOR_COLUMN

IDS_PER_PAGE = 100
TEXT_COLUMNS = ("document_id", "title", "text")
_ID_STARTS = "0123456789abcdef"

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Namespace:
    """A generation."""

    connection: Connection
    index: VectorIndex
    name: str
    dimension: int
    columns: tuple[str, ...]
    """Metadata columns."""


def fetched(namespace: Namespace, ids: list[str]) -> list[dict[str, Any]]:
    """The rows with these ids that are there."""
    fetch = partial(namespace.index.handle.fetch, ids=ids, namespace=namespace.name)
    vectors = namespace.connection.call(f"reading from {namespace.name}", fetch).vectors
    return [{"id": key, VECTOR_COLUMN: row.values, **_columns(row.metadata or {})} for key, row in vectors.items()]


def existing(namespace: Namespace, ids: list[str]) -> list[str]:
    """Those of the ids that are there."""
    fetch = partial(namespace.index.handle.fetch, ids=ids, namespace=namespace.name)
    return list(namespace.connection.call(f"reading from {namespace.name}", fetch).vectors)


def delete(namespace: Namespace, ids: list[str]) -> None:
    """Delete rows."""
    request = partial(namespace.index.handle.delete, ids=ids, namespace=namespace.name)
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


def count(namespace: Namespace) -> int:
    """The number of ids, once the service's own figure agrees or `consistency_seconds` are over."""
    counted = reported = 0
    for _ in namespace.connection.polls():
        counted = sum(len(page) for page in pages(namespace))
        describe = namespace.index.handle.describe_index_stats
        stats = namespace.connection.call(f"counting {namespace.name}", describe).namespaces
        reported = stats[namespace.name].vector_count if namespace.name in stats else 0
        if counted == reported:
            return counted
    log.warning("%s has %d ids of passages, but Pinecone reports %d rows", namespace.name, counted, reported)
    return counted


def _columns(metadata: dict[str, Any]) -> dict[str, Any]:
    """Metadata as they were written; Pinecone's numbers are floats."""
    return {name: int(value) if name == "ordinal" else value for name, value in metadata.items()}


def _page(namespace: Namespace, start: str, token: str | None) -> tuple[str, pa.Array, str | None]:
    listing = partial(
        namespace.index.handle.list_paginated,
        prefix=start,
        limit=IDS_PER_PAGE,
        pagination_token=token,
        namespace=namespace.name,
    )
    page = namespace.connection.call(f"listing {namespace.name}", listing)
    ids = pa.array([item.id for item in page.vectors], pa.string())
    return start, ids, page.pagination.next if page.pagination else None
