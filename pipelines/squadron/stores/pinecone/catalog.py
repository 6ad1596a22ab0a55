"""Pinecone's books: records in a namespace of their own that say which generations exist and which one is live.

A generation's record is in the index that holds the generation. The live pointer is in the index of the
generation that it names; of several pointers the one with the highest revision counts.
"""

import json
from collections.abc import Iterable
from dataclasses import dataclass
from functools import partial
from typing import Any

from squadron.errors import StoreError
from squadron.stores.pinecone.connection import Connection, Place, any_vector

NAMESPACE = "_squadron"
MOST_RECORDS = 1_000
MAX_METADATA_BYTES = 40 * 1024


@dataclass(frozen=True)
class Entry:
    """A generation: where it is, and its record."""

    place: Place
    collection: str
    generation: str
    columns: tuple[str, ...]
    description: dict[str, Any]


def entries(connection: Connection, **equal: str) -> list[Entry]:
    """The generations whose records have these values: `collection`, `generation`."""
    found = _records(connection, connection.places(), kind="generation", **equal)
    return [
        Entry(
            place=place,
            collection=record["collection"],
            generation=record["generation"],
            columns=tuple(json.loads(record["columns"])),
            description=json.loads(record["description"]),
        )
        for place, record in found
    ]


def record(connection: Connection, entry: Entry) -> None:
    """Store a generation's record in place of the one before."""
    metadata = {
        "kind": "generation",
        "collection": entry.collection,
        "generation": entry.generation,
        "columns": json.dumps(entry.columns),
        "description": json.dumps(entry.description, ensure_ascii=False),
    }
    size = len(metadata["description"].encode())
    if size > MAX_METADATA_BYTES - 2_000:
        raise StoreError(
            f"the description of {entry.generation!r} has {size:,} bytes, Pinecone stores 38,000 with a record"
        )
    _write(connection, entry.place, f"generation/{entry.generation}", metadata)


def erase(connection: Connection, entry: Entry) -> None:
    """Remove a generation's record."""
    ids = [f"generation/{entry.generation}"]
    delete = partial(entry.place.index.delete, ids=ids, namespace=NAMESPACE)
    connection.call(f"removing the record of {entry.generation}", delete)
    connection.settle(entry.place, NAMESPACE)


def pointer(connection: Connection, collection_name: str) -> dict[str, Any] | None:
    """The live pointer; None before the first promotion."""
    found = _records(connection, connection.places(), kind="live", collection=collection_name)
    pointers = [json.loads(record["pointer"]) for _, record in found]
    return max(pointers, key=lambda one: (one["revision"], one["promoted_at"], one["generation"]), default=None)


def point(connection: Connection, place: Place, pointer: dict[str, Any]) -> None:
    """Store the live pointer of a collection."""
    metadata = {"kind": "live", "collection": pointer["collection"], "pointer": json.dumps(pointer)}
    _write(connection, place, f"live/{pointer['collection']}", metadata)


def _records(connection: Connection, places: Iterable[Place], **equal: str) -> list[tuple[Place, dict[str, Any]]]:
    filter = {name: {"$eq": value} for name, value in equal.items()}
    found = []
    for place in places:
        if place.dimension:
            given = {"vector": any_vector(place.dimension), "top_k": MOST_RECORDS, "filter": filter}
            response = connection.query(place, NAMESPACE, given | {"include_metadata": True})
            found += [(place, match.metadata or {}) for match in response.matches]
    return found


def _write(connection: Connection, place: Place, key: str, metadata: dict[str, str]) -> None:
    """Store a record, and return when others see it: the next task is another process."""
    vector = {"id": key, "values": any_vector(place.dimension), "metadata": metadata}
    upsert = partial(place.index.upsert, vectors=[vector], namespace=NAMESPACE)
    connection.committed(place, NAMESPACE, connection.call(f"writing the record {key}", upsert))
    connection.query(place, NAMESPACE, {"vector": any_vector(place.dimension), "top_k": 1})
