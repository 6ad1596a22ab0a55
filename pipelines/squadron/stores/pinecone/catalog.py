"""Pinecone's catalog: records in a namespace of their own that say which generations exist and which one is live.

A generation's record is in the index that holds the generation. The live pointer is in the index of the
generation that it names; of several pointers the one with the highest revision counts. The service cannot write on a
condition: what is written is read before, compared, and read back.
"""

import json
from dataclasses import asdict, dataclass, replace
from functools import partial
from typing import Any

from squadron.errors import StoreError
from squadron.stores.contract import LivePointer, StoredRecord
from squadron.stores.pinecone.connection import Connection, VectorIndex, any_vector
from squadron.stores.record_revisions import absent_generation, next_record, stale_record

NAMESPACE = "_squadron"
MOST_RECORDS = 1_000
MAX_METADATA_BYTES = 40 * 1024


@dataclass(frozen=True)
class Entry:
    """A generation: where it is, and its record."""

    index: VectorIndex
    collection: str
    generation: str
    columns: tuple[str, ...]
    record: StoredRecord


def entries(connection: Connection, **equal: str) -> list[Entry]:
    """The generations whose records have these values: `collection`, `generation`."""
    records = _records(connection, kind="generation", **equal)
    return [
        Entry(
            index=index,
            collection=metadata["collection"],
            generation=metadata["generation"],
            columns=tuple(json.loads(metadata["columns"])),
            record=StoredRecord(metadata["description"], int(metadata.get("revision", 1))),
        )
        for index, metadata in records
    ]


def write(connection: Connection, entry: Entry) -> None:
    """Store what is known about a generation in place of what was known before."""
    metadata = {
        "kind": "generation",
        "collection": entry.collection,
        "generation": entry.generation,
        "columns": json.dumps(entry.columns),
        "description": entry.record.text,
        "revision": str(entry.record.revision),
    }
    size = len(metadata["description"].encode())
    if size > MAX_METADATA_BYTES - 2_000:
        raise StoreError(
            f"the record of {entry.generation!r} has {size:,} bytes, Pinecone stores 38,000: it was not written"
        )
    _write(connection, entry.index, f"generation/{entry.generation}", metadata)


def write_record(
    connection: Connection, collection_name: str, generation: str, record_text: str, expected_revision: int
) -> StoredRecord:
    """The record, written in place of the one with the expected revision, and read back."""
    entry = _entry(connection, collection_name, generation)
    if entry is None:
        missing = absent_generation(collection_name, generation)
        raise stale_record(generation, None, expected_revision) if expected_revision else missing
    record = next_record(generation, record_text, entry.record, expected_revision)
    write(connection, replace(entry, record=record))
    entry = _entry(connection, collection_name, generation)
    stored = entry.record if entry else None
    if stored != record:
        raise stale_record(generation, stored, expected_revision)
    return record


def erase(connection: Connection, entry: Entry) -> None:
    """Remove a generation's record."""
    ids = [f"generation/{entry.generation}"]
    delete = partial(entry.index.handle.delete, ids=ids, namespace=NAMESPACE)
    connection.call(f"removing the record of {entry.generation}", delete)
    connection.settle(entry.index, NAMESPACE)


def pointer(connection: Connection, collection_name: str) -> LivePointer | None:
    """The live pointer; None before the first promotion."""
    records = _records(connection, kind="live", collection=collection_name)
    pointers = [LivePointer(**json.loads(metadata["pointer"])) for _, metadata in records]
    return max(pointers, key=lambda one: (one.revision, one.promoted_at, one.generation), default=None)


def moved(connection: Connection, index: VectorIndex, new_pointer: LivePointer) -> bool:
    """Whether the pointer was moved, and read back: not when another run moved it meanwhile."""
    collection = new_pointer.collection
    metadata = {"kind": "live", "collection": collection, "pointer": json.dumps(asdict(new_pointer))}
    _write(connection, index, f"live/{collection}", metadata)
    return pointer(connection, collection) == new_pointer


def _entry(connection: Connection, collection_name: str, generation: str) -> Entry | None:
    return next(iter(entries(connection, collection=collection_name, generation=generation)), None)


def _records(connection: Connection, **equal: str) -> list[tuple[VectorIndex, dict[str, Any]]]:
    """The metadata of the records that have these values, each with the index that it is in."""
    filter = {name: {"$eq": value} for name, value in equal.items()}
    records = []
    for index in connection.indexes():
        if index.dimension:
            query = {"vector": any_vector(index.dimension), "top_k": MOST_RECORDS, "filter": filter}
            response = connection.query(index, NAMESPACE, query | {"include_metadata": True})
            records += [(index, match.metadata or {}) for match in response.matches]
    return records


def _write(connection: Connection, index: VectorIndex, key: str, metadata: dict[str, str]) -> None:
    """Store a record, and return when others see it: the next task is another process."""
    vector = {"id": key, "values": any_vector(index.dimension), "metadata": metadata}
    upsert = partial(index.handle.upsert, vectors=[vector], namespace=NAMESPACE)
    connection.committed(index, NAMESPACE, connection.call(f"writing the record {key}", upsert))
    connection.query(index, NAMESPACE, {"vector": any_vector(index.dimension), "top_k": 1})
