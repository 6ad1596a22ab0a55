"""Pinecone: a service; the key is in the environment variable PINECONE_API_KEY.

A generation is a namespace of an index. An index holds vectors of one dimension and metric, so that there is one
for each pair of them, `<store.pinecone.index>-<dimension>-<metric>`, created when it is first needed. What is
known about the generations, and which one is live, is in catalog.py. Nothing in the service compares before it writes:
of two runs that promote in the same instant both may succeed, and the pointer is the last one's.
"""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import partial

import numpy as np
import pyarrow as pa

from squadron.errors import StoreError
from squadron.settings.store_sections import PineconeSettings
from squadron.stores.batches import id_batches
from squadron.stores.contract import LivePointer, StoredRecord
from squadron.stores.live_pointer import promote, refuse_foreign, refuse_live
from squadron.stores.pinecone import catalog, rows, search, writes
from squadron.stores.pinecone.connection import Connection
from squadron.stores.pinecone.rows import Namespace
from squadron.stores.record_checks import distinct_records, refuse_other
from squadron.stores.record_revisions import first_record
from squadron.stores.record_schema import record_schema
from squadron.stores.side_effects import side_effect

IDS_PER_DELETE, IDS_PER_FETCH = 1_000, 100


def client(store_settings: PineconeSettings) -> Connection:
    """The connected project. Raises SettingsError without a key, StoreError when the service refuses or is silent."""
    connection = Connection(store_settings)
    try:
        connection.indexes()
    except StoreError:
        connection.close()
        raise
    return connection


@side_effect
def generation_table(
    client: Connection,
    collection_name: str,
    generation: str,
    dimension: int,
    metric: str,
    metadata_columns: Sequence[str],
) -> Namespace:
    """The generation's namespace; its index and its record are created if absent.

    Raises StoreError when the generation exists with another dimension or metric.
    """
    entries = catalog.entries(client, generation=generation)
    if entries:
        entry = entries[0]
        refuse_other(generation, "dimension", entry.index.dimension, dimension)
        refuse_other(generation, "metric", entry.index.metric or metric, metric)
    else:
        entry = catalog.Entry(client.index_for(dimension, metric), collection_name, generation, (), first_record())
    columns = tuple(dict.fromkeys([*entry.columns, *metadata_columns]))
    if not entries or columns != entry.columns:
        catalog.write(client, replace(entry, columns=columns))
    return Namespace(client, entry.index, generation, dimension, columns)


def stored_ids(generation_table: Namespace) -> Iterator[pa.Array]:
    """All ids of the generation, streamed: sixteen listings beside each other, by the first digit."""
    generation_table.connection.settle(generation_table.index, generation_table.name)
    yield from rows.pages(generation_table)


def stored_rows(generation_table: Namespace, wanted_ids: pa.Array) -> pa.Table:
    """Those of the rows that are there, as `record_schema.record_schema` says, in no order."""
    generation_table.connection.settle(generation_table.index, generation_table.name)
    fetched = partial(rows.fetched, generation_table)
    parts = generation_table.connection.each(fetched, id_batches(wanted_ids, IDS_PER_FETCH))
    columns = record_schema(generation_table.dimension, generation_table.columns)
    return pa.Table.from_pylist([row for part in parts for row in part], columns)


@side_effect
def rows_written(generation_table: Namespace, records: pa.Table) -> int:
    """The number of distinct records written. Ids that are there already are replaced.

    Raises StoreError, before anything is written, when a row's texts are more than Pinecone stores; afterwards,
    with ids and reasons, when the service did not take rows in spite of repeated attempts.
    """
    if not records.num_rows:
        return 0
    distinct = distinct_records(records, generation_table.dimension, generation_table.name)
    return writes.write_all(generation_table, distinct)


@side_effect
def rows_deleted(generation_table: Namespace, expired_ids: pa.Array) -> int:
    """The number of rows deleted; ids that are not there count for nothing."""
    if not len(expired_ids):
        return 0
    connection = generation_table.connection
    connection.settle(generation_table.index, generation_table.name)
    existing = partial(rows.existing, generation_table)
    parts = connection.each(existing, id_batches(expired_ids.unique(), IDS_PER_FETCH))
    ids = pa.array([key for part in parts for key in part], pa.string())
    connection.each(partial(rows.delete, generation_table), id_batches(ids, IDS_PER_DELETE))
    connection.settle(generation_table.index, generation_table.name)
    return len(ids)


def row_count(generation_table: Namespace) -> int:
    """The exact number of rows: of their ids, once the service's own figure agrees or `consistency_seconds` pass."""
    generation_table.connection.settle(generation_table.index, generation_table.name)
    return rows.count(generation_table)


def version(generation_table: Namespace) -> int | None:
    """None: Pinecone keeps no earlier versions."""
    return None


@side_effect
def restored(generation_table: Namespace, earlier_version: int) -> int:
    """Raises StoreError: there is no earlier version to return to."""
    raise StoreError(f"Pinecone keeps no earlier versions: {generation_table.name!r} was not changed")


def earlier_table(client: Connection, generation: str, earlier_version: int) -> Namespace:
    """Raises StoreError: there is no earlier version."""
    raise StoreError(f"Pinecone keeps no earlier versions of {generation!r}")


@side_effect
def index_built(
    generation_table: Namespace, metric: str, store_settings: PineconeSettings, kept_version: int | None
) -> str:
    """What searches use. Pinecone indexes by itself; returns when searches reflect all rows."""
    generation_table.connection.settle(generation_table.index, generation_table.name)
    return f"kept by Pinecone in {generation_table.index.name}"


def matches(
    generation_table: Namespace, query_vectors: np.ndarray, top_k: int, metric: str, filter: dict[str, str]
) -> pa.Table:
    """The nearest rows of each query, as `record_checks.match_schema` says. `query_vectors`: float32 [q, d]."""
    return search.nearest_rows(generation_table, query_vectors, top_k, metric, filter)


def generation_records(client: Connection, collection_name: str) -> dict[str, StoredRecord]:
    """The records of the collection's generations that exist, by the generation's name."""
    return {entry.generation: entry.record for entry in catalog.entries(client, collection=collection_name)}


@side_effect
def record_stored(
    client: Connection, collection_name: str, generation: str, record_text: str, expected_revision: int
) -> StoredRecord:
    """The record, written in place of the one with the expected revision; 0: the generation has none yet.

    Raises StaleRecordError when the stored record has another revision, StoreError when there is no such generation.
    Of two runs that write in the same moment, both may be told that they did: the later one did.
    """
    return catalog.write_record(client, collection_name, generation, record_text, expected_revision)


def live_generation(client: Connection, collection_name: str) -> LivePointer | None:
    """The live pointer; None before the first promotion."""
    return catalog.pointer(client, collection_name)


@side_effect
def promoted(client: Connection, collection_name: str, generation: str, expected_live: str | None) -> LivePointer:
    """The live pointer, moved to the generation.

    Raises StaleLiveError when `expected_live` is not what was live, or when another run's pointer has replaced
    this one meanwhile; StoreError when there is no such generation.
    """
    indexes = {entry.generation: entry.index for entry in catalog.entries(client, collection=collection_name)}
    read = partial(catalog.pointer, client, collection_name)
    return promote(
        collection_name,
        generation,
        expected_live,
        indexes,
        read,
        lambda pointer: catalog.moved(client, indexes[generation], pointer),
    )


@side_effect
def dropped(client: Connection, collection_name: str, generation: str) -> str:
    """The generation, after it was removed. Raises StoreError for the live one and for another collection's."""
    refuse_live(collection_name, generation, catalog.pointer(client, collection_name))
    for entry in catalog.entries(client, generation=generation):
        refuse_foreign(collection_name, generation, entry.collection)
        client.drop(entry.index, generation)
        catalog.erase(client, entry)
    return generation
