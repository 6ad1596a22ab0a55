"""Pinecone: a service; the key is in the environment variable PINECONE_API_KEY.

A generation is a namespace of an index. An index holds vectors of one dimension and metric, so that there is one
for each pair of them, `<store.pinecone.index>-<dimension>-<metric>`, created when it is first needed. What is
known about the generations, and which one is live, is in catalog.py. Nothing in the service compares before it writes:
of two runs that promote in the same instant both may succeed, and the pointer is the last one's.
"""

import logging
from collections.abc import Iterator, Sequence
from concurrent.futures import Future
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
import pyarrow as pa

from squadron.errors import StoreError
from squadron.settings.store_sections import PineconeSettings
from squadron.stores.contract import LivePointer, StoredRecord
from squadron.stores.live_pointer import next_pointer, refuse_live, stale_pointer
from squadron.stores.pinecone import catalog, rows
from squadron.stores.pinecone.connection import Connection
from squadron.stores.pinecone.rows import Namespace
from squadron.stores.record_checks import checked_filter, distinct_records, match_schema, refuse_other
from squadron.stores.record_revisions import first_record
from squadron.stores.record_schema import record_schema
from squadron.stores.side_effects import side_effect

log = logging.getLogger(__name__)

IDS_PER_DELETE, IDS_PER_FETCH = 1_000, 100
MOST_MATCHES = 10_000


def client(store_settings: PineconeSettings) -> Connection:
    """The connected project. Raises SettingsError without a key, StoreError when the service refuses or is silent."""
    connection = Connection(store_settings)
    try:
        connection.places()
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
    found = catalog.entries(client, generation=generation)
    if found:
        entry = found[0]
        refuse_other(generation, "dimension", entry.place.dimension, dimension)
        refuse_other(generation, "metric", entry.place.metric or metric, metric)
    else:
        entry = catalog.Entry(client.place(dimension, metric), collection_name, generation, (), first_record())
    columns = tuple(dict.fromkeys([*entry.columns, *metadata_columns]))
    if not found or columns != entry.columns:
        catalog.write(client, replace(entry, columns=columns))
    return Namespace(client, entry.place, generation, dimension, columns)


def stored_ids(generation_table: Namespace) -> Iterator[pa.Array]:
    """All ids of the generation, streamed: sixteen listings beside each other, by the first digit."""
    generation_table.connection.settle(generation_table.place, generation_table.name)
    yield from rows.pages(generation_table)


def stored_rows(generation_table: Namespace, wanted_ids: pa.Array) -> pa.Table:
    """Those of the rows that are there, as `record_schema.record_schema` says, in no order."""
    generation_table.connection.settle(generation_table.place, generation_table.name)
    ids = wanted_ids.to_pylist()
    parts = [ids[start : start + IDS_PER_FETCH] for start in range(0, len(ids), IDS_PER_FETCH)]
    found = [
        row for part in generation_table.connection.each(partial(rows.fetched, generation_table), parts) for row in part
    ]
    return pa.Table.from_pylist(found, record_schema(generation_table.dimension, generation_table.columns))


@side_effect
def rows_written(generation_table: Namespace, records: pa.Table) -> int:
    """The number of distinct records written. Ids that are there already are replaced.

    Raises StoreError, before anything is written, when a row's texts are more than Pinecone stores; afterwards,
    with ids and reasons, when the service did not take rows in spite of repeated attempts.
    """
    if not records.num_rows:
        return 0
    connection, records = (
        generation_table.connection,
        distinct_records(records, generation_table.dimension, generation_table.name),
    )
    tasks: dict[Future[int], list[str]] = {}
    made = rows.rows_of(records, generation_table.columns)
    sizes = rows.metadata_bytes(made)
    for start, stop in rows.batches(sizes, generation_table.dimension, connection.settings.concurrency):
        batch = made.part(start, stop)
        tasks[connection.submit(rows.write, generation_table, batch)] = batch.ids
    errors = [(tasks[task], error) for task in connection.finished(set(tasks)) if (error := task.exception())]
    if errors:
        raise rows.unwritten(generation_table, errors)
    return sum(task.result() for task in tasks)


@side_effect
def rows_deleted(generation_table: Namespace, expired_ids: pa.Array) -> int:
    """The number of rows deleted; ids that are not there count for nothing."""
    if not len(expired_ids):
        return 0
    connection, ids = generation_table.connection, expired_ids.unique().to_pylist()
    connection.settle(generation_table.place, generation_table.name)
    looked_up = [ids[start : start + IDS_PER_FETCH] for start in range(0, len(ids), IDS_PER_FETCH)]
    found = [key for part in connection.each(partial(rows.existing, generation_table), looked_up) for key in part]
    parts = [found[start : start + IDS_PER_DELETE] for start in range(0, len(found), IDS_PER_DELETE)]
    connection.each(partial(rows.delete, generation_table), parts)
    connection.settle(generation_table.place, generation_table.name)
    return len(found)


def row_count(generation_table: Namespace) -> int:
    """The exact number of rows: of their ids, once the service's own figure agrees or `consistency_seconds` pass."""
    connection, index = generation_table.connection, generation_table.place.index
    connection.settle(generation_table.place, generation_table.name)
    counted = reported = 0
    for _ in connection.polls():
        counted = sum(len(page) for page in rows.pages(generation_table))
        stats = connection.call(f"counting {generation_table.name}", index.describe_index_stats)
        reported = (
            stats.namespaces[generation_table.name].vector_count if generation_table.name in stats.namespaces else 0
        )
        if counted == reported:
            return counted
    log.warning("%s has %d ids of passages, but Pinecone reports %d rows", generation_table.name, counted, reported)
    return counted


def version(generation_table: Namespace) -> int | None:
    """None: Pinecone keeps no earlier versions."""
    return None


@side_effect
def restored(generation_table: Namespace, earlier_version: int) -> int:
    """Raises StoreError: there is nothing to return to."""
    raise StoreError(f"Pinecone keeps no earlier versions: {generation_table.name!r} stays as it is")


def earlier_table(client: Connection, generation: str, earlier_version: int) -> Namespace:
    """Raises StoreError: there is none."""
    raise StoreError(f"Pinecone keeps no earlier versions: {generation!r} is what it is now")


@side_effect
def index_built(
    generation_table: Namespace, metric: str, store_settings: PineconeSettings, kept_version: int | None
) -> str:
    """What searches use. Pinecone indexes by itself; returns when searches reflect all rows."""
    generation_table.connection.settle(generation_table.place, generation_table.name)
    return f"kept by Pinecone in {generation_table.place.name}"


def matches(
    generation_table: Namespace, query_vectors: np.ndarray, top_k: int, metric: str, filter: dict[str, str]
) -> pa.Table:
    """The nearest rows of each query, as `record_checks.match_schema` says. `query_vectors`: float32 [q, d]."""
    if top_k > MOST_MATCHES:
        raise StoreError(f"Pinecone returns at most {MOST_MATCHES:,} matches of a query, not {top_k:,}: ask for fewer")
    equal = checked_filter(filter, [*rows.TEXT_COLUMNS, *generation_table.columns])
    query: dict[str, Any] = {"top_k": top_k, "include_metadata": True}
    if equal:
        query["filter"] = {name: {"$eq": value} for name, value in equal.items()}
    ask = partial(generation_table.connection.query, generation_table.place, generation_table.name)
    answers = generation_table.connection.each(ask, [{**query, "vector": vector} for vector in query_vectors.tolist()])
    found = [
        rows.match_row(generation_table, position, rank, match, metric)
        for position, answer in enumerate(answers)
        for rank, match in enumerate(answer.matches, start=1)
    ]
    return pa.Table.from_pylist(found, match_schema(generation_table.columns))


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
    existing = {entry.generation: entry.place for entry in catalog.entries(client, collection=collection_name)}
    before = catalog.pointer(client, collection_name)
    pointer = next_pointer(collection_name, generation, existing, before, expected_live)
    if pointer == before:
        return pointer
    catalog.point(client, existing[generation], pointer)
    now = catalog.pointer(client, collection_name)
    if now != pointer:
        raise stale_pointer(collection_name, generation, now, expected_live)
    return pointer


@side_effect
def dropped(client: Connection, collection_name: str, generation: str) -> str:
    """The generation, after it was removed. Raises StoreError for the live one and for another collection's."""
    refuse_live(collection_name, generation, catalog.pointer(client, collection_name))
    for entry in catalog.entries(client, generation=generation):
        if entry.collection != collection_name:
            raise StoreError(f"{generation!r} is a generation of {entry.collection!r}, not of {collection_name!r}")
        client.drop(entry.place, generation)
        catalog.erase(client, entry)
    return generation
