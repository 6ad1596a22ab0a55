"""Weaviate: a server, or a cluster of them, spoken to in REST and gRPC.

A generation is a Weaviate collection, `squad_ab12cd34` being `Squad_ab12cd34` there; a passage's id is its object's
uuid. The class's description says of what dimension it is, which Weaviate itself learns from the first vector. What
is live is written in a collection of its own (`weaviate_catalog`).
"""

import itertools
import time
from collections.abc import Iterator, Sequence
from functools import partial
from typing import Any

import numpy as np
import pyarrow as pa

from squadron.dataflow.records import record_schema
from squadron.errors import StoreError
from squadron.settings.store_sections import WeaviateSettings
from squadron.stores.live_pointer import first_description, next_pointer, refuse_live, stale
from squadron.stores.record_checks import checked_filter, distinct_records, match_schema, refuse_other
from squadron.stores.weaviate.catalog import enter, enter_new, entries, live_entry, point_alias, strike
from squadron.stores.weaviate.connection import Connection, connected
from squadron.stores.weaviate.requests import answered, at_once
from squadron.stores.weaviate.rows import (
    IDS_PER_DELETE,
    ROWS_PER_FETCH,
    delete,
    fetched,
    ids_between,
    messages,
    nearest,
    write,
)
from squadron.stores.weaviate.schema import (
    Generation,
    GenerationClass,
    add_column,
    class_exists,
    class_name,
    create_generation_class,
    drop_generation_class,
    read_generation_class,
)

INDEXING_POLL_SECONDS = 0.5


def client(store_settings: WeaviateSettings) -> Connection:
    """The connection. Raises StoreError or SettingsError, naming what is to be set, when there is none to be had."""
    return connected(store_settings)


def collection(
    client: Connection,
    collection_name: str,
    generation: str,
    dimension: int,
    metric: str,
    metadata_columns: Sequence[str],
) -> Generation:
    """The generation, created if absent; metadata columns that it lacks are added.

    Raises StoreError when it exists with another dimension or metric.
    """
    name = class_name(generation)
    if not class_exists(client, name):
        wanted = GenerationClass(collection_name, dimension, metric, tuple(metadata_columns))
        create_generation_class(client, generation, wanted)
    found = read_generation_class(client, generation)
    refuse_other(generation, "dimension", found.dimension, dimension)
    refuse_other(generation, "metric", found.metric, metric)
    missing = [column for column in metadata_columns if column not in found.metadata_columns]
    for column in missing:
        add_column(client, generation, column)
    if generation not in entries(client, "generation", collection_name):
        enter_new(client, "generation", collection_name, generation, first_description())
    columns = (*found.metadata_columns, *missing)
    return Generation(client, generation, dimension, columns, client.client.collections.use(name))


def stored_ids(collection: Generation) -> Iterator[pa.Array]:
    """All ids of the generation, streamed."""
    parts = collection.connection.settings.concurrency
    borders = [(part << 128) // parts for part in range(parts + 1)]
    for pages in at_once(collection.connection, partial(ids_between, collection), itertools.pairwise(borders)):
        yield from pages


def stored_rows(collection: Generation, wanted_ids: pa.Array) -> pa.Table:
    """Those of the rows that are there, as `records.record_schema` says, in no order."""
    parts = [wanted_ids[start : start + ROWS_PER_FETCH] for start in range(0, len(wanted_ids), ROWS_PER_FETCH)]
    found = at_once(collection.connection, partial(fetched, collection), parts)
    wanted = record_schema(collection.dimension, collection.metadata_columns)
    return pa.Table.from_pylist([row for rows in found for row in rows], wanted)


def rows_written(collection: Generation, records: pa.Table) -> int:
    """The number of distinct records written. Ids that are there already are replaced.

    Raises StoreError, with ids and reasons, when the server refused some; the others are written then.
    """
    if not records.num_rows:
        return 0
    records = distinct_records(records, collection.dimension, collection.name)
    parts = messages(records, collection.connection.message_bytes)
    refused: dict[str, str] = {}
    for outcome in at_once(collection.connection, partial(write, collection), parts):
        refused |= outcome
    if refused:
        some = "; ".join(f"{key}: {reason}" for key, reason in itertools.islice(refused.items(), 5))
        raise StoreError(
            f"{collection.name!r} refused {len(refused)} of {records.num_rows} rows, the others were written. {some}"
        )
    return records.num_rows


def rows_deleted(collection: Generation, expired_ids: pa.Array) -> int:
    """The number of rows deleted; ids that are not there count for nothing."""
    parts = [expired_ids[start : start + IDS_PER_DELETE] for start in range(0, len(expired_ids), IDS_PER_DELETE)]
    return sum(at_once(collection.connection, partial(delete, collection), parts))


def row_count(collection: Generation) -> int:
    """The exact number of rows."""
    call = partial(collection.rows.aggregate.over_all, total_count=True)
    return answered(collection.connection, f"count the rows of {collection.name!r}", call).total_count or 0


def version(collection: Generation) -> int | None:
    """None: Weaviate keeps no earlier versions."""
    return None


def restored(collection: Generation, earlier_version: int) -> int:
    """Raises StoreError: there is nothing to return to."""
    raise StoreError(f"Weaviate keeps no earlier versions: {collection.name!r} stays as it is")


def earlier_collection(client: Connection, generation: str, earlier_version: int) -> Generation:
    """Raises StoreError: there is none."""
    raise StoreError(f"Weaviate keeps no earlier versions: {generation!r} is what it is now")


def index_built(collection: Generation, metric: str, store_settings: WeaviateSettings, kept_version: int | None) -> str:
    """What searches use. Weaviate indexes what is written; where it does so in the background, this waits for it.

    Raises StoreError when a shard is read-only, or when for `timeout_seconds` nothing was indexed.
    """
    least, progressed_at = None, time.monotonic()
    while waiting := _unindexed(collection):
        if least is None or waiting < least:
            least, progressed_at = waiting, time.monotonic()
        if time.monotonic() - progressed_at > store_settings.timeout_seconds:
            raise StoreError(
                f"{waiting} vectors of {collection.name!r} wait to be indexed, no fewer than "
                f"{store_settings.timeout_seconds:g} seconds ago: look at the server, then run this step again"
            )
        time.sleep(INDEXING_POLL_SECONDS)
    return f"HNSW ({metric}) over {row_count(collection)} rows"


def matches(
    collection: Generation, query_vectors: np.ndarray, top_k: int, metric: str, filter: dict[str, str]
) -> pa.Table:
    """The nearest rows of each query, as `record_checks.match_schema` says. `query_vectors`: float32 [q, d]."""
    equal = checked_filter(filter, ["document_id", "title", *collection.metadata_columns])
    search = partial(nearest, collection, top_k, metric, equal)
    found = at_once(collection.connection, search, enumerate(query_vectors))
    wanted = match_schema(collection.metadata_columns)
    return pa.Table.from_pylist([row for rows in found for row in rows], wanted)


def generations(client: Connection, collection_name: str) -> dict[str, dict[str, Any]]:
    """The collection's generations that exist, by name, with their descriptions."""
    found = entries(client, "generation", collection_name)
    return {name: entry for name, entry in found.items() if class_exists(client, class_name(name))}


def described(client: Connection, collection_name: str, generation: str, description: dict[str, Any]) -> str:
    """The generation, after its description was stored in place of the one before."""
    enter(client, "generation", collection_name, generation, description)
    return generation


def live_generation(client: Connection, collection_name: str) -> dict[str, Any] | None:
    """The live pointer: generation, previous, revision, promoted_at; None before the first promotion."""
    return live_entry(client, collection_name)


def promoted(client: Connection, collection_name: str, generation: str, expected_live: str | None) -> dict[str, Any]:
    """The live pointer, moved to the generation, and the alias after it.

    Raises StaleLiveError when `expected_live` is not what was live, StoreError when there is no such generation.
    Of two runs that promote in the same moment, both may be told that they did: the later one did.
    """
    before = live_entry(client, collection_name)
    pointer = next_pointer(collection_name, generation, generations(client, collection_name), before, expected_live)
    if pointer != before:
        enter(client, "live", collection_name, collection_name, pointer)
        now = live_entry(client, collection_name)
        if now != pointer:
            raise stale(collection_name, generation, now["generation"] if now else None, expected_live)
    point_alias(client, collection_name)
    return pointer


def dropped(client: Connection, collection_name: str, generation: str) -> str:
    """The generation, after it was removed. Raises StoreError for the live one, and for another collection's."""
    refuse_live(collection_name, generation, live_entry(client, collection_name))
    if class_exists(client, class_name(generation)):
        owner = read_generation_class(client, generation).collection_name
        if owner != collection_name:
            raise StoreError(f"{generation!r} is a generation of {owner!r}, not of {collection_name!r}")
        drop_generation_class(client, generation)
    strike(client, "generation", collection_name, generation)
    return generation


def _unindexed(collection: Generation) -> int:
    """The number of vectors that wait to be indexed."""
    call = collection.rows.config.get_shards
    shards = answered(collection.connection, f"look at the index of {collection.name!r}", call)
    if locked := [shard.name for shard in shards if shard.status == "READONLY"]:
        raise StoreError(f"{collection.name!r} is read-only (shards {', '.join(locked)}): is the server's disk full?")
    return sum(shard.vector_queue_size for shard in shards)
