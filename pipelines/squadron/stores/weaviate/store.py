"""Weaviate: a server, or a cluster of them, reached by REST and gRPC.

A generation is a Weaviate collection, `squad_ab12cd34` being `Squad_ab12cd34` there; a passage's id is its object's
uuid. The class's description says of what dimension it is, which Weaviate itself learns from the first vector. What
is live is written in a collection of its own (catalog.py).
"""

import itertools
from collections.abc import Iterator, Sequence
from functools import partial

import numpy as np
import pyarrow as pa

from squadron.errors import StoreError
from squadron.settings.store_sections import WeaviateSettings
from squadron.stores.batches import id_batches
from squadron.stores.contract import LivePointer, StoredRecord
from squadron.stores.live_pointer import promote, refuse_foreign, refuse_live
from squadron.stores.record_checks import distinct_records, refuse_other
from squadron.stores.record_schema import record_schema
from squadron.stores.side_effects import side_effect
from squadron.stores.weaviate import catalog
from squadron.stores.weaviate.connection import Connection, connected
from squadron.stores.weaviate.index import wait_for_index
from squadron.stores.weaviate.requests import answered, at_once
from squadron.stores.weaviate.rows import (
    IDS_PER_DELETE,
    ROWS_PER_FETCH,
    delete,
    fetched,
    ids_between,
    messages,
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
from squadron.stores.weaviate.search import nearest_rows


def client(store_settings: WeaviateSettings) -> Connection:
    """The connection. Raises StoreError or SettingsError, naming what is to be set, when there is none to be had."""
    return connected(store_settings)


@side_effect
def generation_table(
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
        requested = GenerationClass(collection_name, dimension, metric, tuple(metadata_columns))
        create_generation_class(client, generation, requested)
    stored = read_generation_class(client, generation)
    refuse_other(generation, "dimension", stored.dimension, dimension)
    refuse_other(generation, "metric", stored.metric, metric)
    missing = [column for column in metadata_columns if column not in stored.metadata_columns]
    for column in missing:
        add_column(client, generation, column)
    catalog.begin_record(client, collection_name, generation)
    columns = (*stored.metadata_columns, *missing)
    return Generation(client, generation, dimension, columns, client.client.collections.use(name))


def stored_ids(generation_table: Generation) -> Iterator[pa.Array]:
    """All ids of the generation, streamed."""
    parts = generation_table.connection.settings.concurrency
    borders = [(part << 128) // parts for part in range(parts + 1)]
    for pages in at_once(
        generation_table.connection, partial(ids_between, generation_table), itertools.pairwise(borders)
    ):
        yield from pages


def stored_rows(generation_table: Generation, wanted_ids: pa.Array) -> pa.Table:
    """Those of the rows that are there, as `record_schema.record_schema` says, in no order."""
    batches = id_batches(wanted_ids, ROWS_PER_FETCH)
    parts = at_once(generation_table.connection, partial(fetched, generation_table), batches)
    columns = record_schema(generation_table.dimension, generation_table.metadata_columns)
    return pa.Table.from_pylist([row for part in parts for row in part], columns)


@side_effect
def rows_written(generation_table: Generation, records: pa.Table) -> int:
    """The number of distinct records written. Ids that are there already are replaced.

    Raises StoreError, with ids and reasons, when the server refused some; the others are written then.
    """
    if not records.num_rows:
        return 0
    records = distinct_records(records, generation_table.dimension, generation_table.name)
    parts = messages(records, generation_table.connection.message_bytes)
    refused: dict[str, str] = {}
    for outcome in at_once(generation_table.connection, partial(write, generation_table), parts):
        refused |= outcome
    if refused:
        some = "; ".join(f"{key}: {reason}" for key, reason in itertools.islice(refused.items(), 5))
        raise StoreError(
            f"{generation_table.name!r} refused {len(refused)} of {records.num_rows} rows, the others were written. "
            f"{some}"
        )
    return records.num_rows


@side_effect
def rows_deleted(generation_table: Generation, expired_ids: pa.Array) -> int:
    """The number of rows deleted; ids that are not there count for nothing."""
    batches = id_batches(expired_ids, IDS_PER_DELETE)
    return sum(at_once(generation_table.connection, partial(delete, generation_table), batches))


def row_count(generation_table: Generation) -> int:
    """The exact number of rows."""
    call = partial(generation_table.rows.aggregate.over_all, total_count=True)
    return answered(generation_table.connection, f"count the rows of {generation_table.name!r}", call).total_count or 0


def version(generation_table: Generation) -> int | None:
    """None: Weaviate keeps no earlier versions."""
    return None


@side_effect
def restored(generation_table: Generation, earlier_version: int) -> int:
    """Raises StoreError: there is no earlier version to return to."""
    raise StoreError(f"Weaviate keeps no earlier versions: {generation_table.name!r} was not changed")


def earlier_table(client: Connection, generation: str, earlier_version: int) -> Generation:
    """Raises StoreError: there is no earlier version."""
    raise StoreError(f"Weaviate keeps no earlier versions of {generation!r}")


@side_effect
def index_built(
    generation_table: Generation, metric: str, store_settings: WeaviateSettings, kept_version: int | None
) -> str:
    """What searches use. Weaviate indexes what is written; where it does so in the background, this waits for it.

    Raises StoreError when a shard is read-only, or when for `timeout_seconds` nothing was indexed.
    """
    wait_for_index(generation_table, store_settings.timeout_seconds)
    return f"HNSW ({metric}) over {row_count(generation_table)} rows"


def matches(
    generation_table: Generation, query_vectors: np.ndarray, top_k: int, metric: str, filter: dict[str, str]
) -> pa.Table:
    """The nearest rows of each query, as `record_checks.match_schema` says. `query_vectors`: float32 [q, d]."""
    return nearest_rows(generation_table, query_vectors, top_k, metric, filter)


def generation_records(client: Connection, collection_name: str) -> dict[str, StoredRecord]:
    """The records of the collection's generations that exist, by the generation's name."""
    return catalog.records(client, collection_name)


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
    """The live pointer, moved to the generation, and the alias after it.

    Raises StaleLiveError when `expected_live` is not what was live, StoreError when there is no such generation.
    Of two runs that promote in the same moment, both may be told that they did: the later one did.
    """
    existing = catalog.records(client, collection_name)
    read, move = partial(catalog.pointer, client, collection_name), partial(catalog.moved, client)
    pointer = promote(collection_name, generation, expected_live, existing, read, move)
    catalog.point_alias(client, collection_name)
    return pointer


@side_effect
def dropped(client: Connection, collection_name: str, generation: str) -> str:
    """The generation, after it was removed. Raises StoreError for the live one, and for another collection's."""
    refuse_live(collection_name, generation, catalog.pointer(client, collection_name))
    if class_exists(client, class_name(generation)):
        refuse_foreign(collection_name, generation, read_generation_class(client, generation).collection_name)
        drop_generation_class(client, generation)
    catalog.remove_record(client, collection_name, generation)
    return generation
