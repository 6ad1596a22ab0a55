"""LanceDB: a directory of tables, no server.

A generation is a table. What is known about the generations, and which one is live, is in two more (catalog.py).
"""

from collections.abc import Iterator, Sequence
from functools import partial

import numpy as np
import pyarrow as pa

from squadron.errors import StoreError
from squadron.settings.connections import located
from squadron.settings.store_sections import LanceDBSettings
from squadron.stores.batches import id_batches
from squadron.stores.contract import LivePointer, StoredRecord
from squadron.stores.lancedb import catalog, index, tables
from squadron.stores.lancedb.runtime import lancedb
from squadron.stores.lancedb.search import nearest_rows
from squadron.stores.lancedb.tables import Database
from squadron.stores.live_pointer import promote, refuse_foreign, refuse_live
from squadron.stores.record_checks import checked_filter, distinct_records, refuse_other, text_columns
from squadron.stores.record_schema import VECTOR_COLUMN, record_schema
from squadron.stores.side_effects import side_effect

IDS_PER_CALL = 5_000
_METRIC = b"squadron.metric"


def client(store_settings: LanceDBSettings) -> Database:
    """The database, connected if it exists. Raises StoreError, naming the setting, when the place cannot be used."""
    database = Database(located(store_settings.uri))
    with tables.reported(f"store.lancedb.uri {store_settings.uri!r} cannot be used"):
        if database.exists():
            database.connection.list_tables(limit=1)
    return database


@side_effect
def generation_table(
    client: Database,
    collection_name: str,
    generation: str,
    dimension: int,
    metric: str,
    metadata_columns: Sequence[str],
) -> lancedb.table.Table:
    """The generation's table, created if absent; metadata columns that it lacks are added.

    Raises StoreError when it exists with another dimension or metric.
    """
    fields = record_schema(dimension, metadata_columns)
    schema = fields.set(0, fields.field("id").with_metadata(tables.KEY)).with_metadata({_METRIC: metric})
    table = tables.table(client, generation, schema)
    stored = table.schema
    refuse_other(generation, "dimension", stored.field(VECTOR_COLUMN).type.list_size, dimension)
    refuse_other(generation, "metric", (stored.metadata or {}).get(_METRIC, b"").decode(), metric)
    if set(schema.names) - set(stored.names):
        with tables.reported(f"metadata columns could not be added to {table.uri}"), tables.alone(client):
            table.checkout_latest()
            table.add_columns(pa.schema([field for field in schema if field.name not in table.schema.names]))
    catalog.begin_record(client, collection_name, generation)
    return table


def stored_ids(generation_table: lancedb.table.Table) -> Iterator[pa.Array]:
    """All ids of the generation, streamed."""
    with tables.reported(f"the ids of {generation_table.uri} could not be read"):
        for batch in generation_table.search().select(["id"]).to_batches():
            yield batch.column("id")


def stored_rows(generation_table: lancedb.table.Table, wanted_ids: pa.Array) -> pa.Table:
    """Those of the rows that are there, as `record_schema.record_schema` says, in no order."""
    names, parts = [field.name for field in generation_table.schema], [generation_table.schema.empty_table()]
    for ids in id_batches(wanted_ids, IDS_PER_CALL):
        where = tables.among("id", ids)
        with tables.reported(f"rows of {generation_table.uri} could not be read"):
            parts.append(generation_table.search().where(where).select(names).to_arrow().select(names))
    return pa.concat_tables(part.replace_schema_metadata() for part in parts)


@side_effect
def rows_written(generation_table: lancedb.table.Table, records: pa.Table) -> int:
    """The number of distinct records written. Ids that are there already are replaced."""
    names = generation_table.schema.names
    dimension = generation_table.schema.field(VECTOR_COLUMN).type.list_size
    if not records.num_rows:
        return 0
    records = distinct_records(records, dimension, generation_table.name)
    for name in set(names) - set(records.column_names):
        records = records.append_column(name, pa.nulls(records.num_rows, pa.string()))
    rows = records.select(names).cast(generation_table.schema)
    with tables.reported(f"{rows.num_rows} rows could not be written to {generation_table.uri}"):
        merged = (
            generation_table.merge_insert("id").when_matched_update_all().when_not_matched_insert_all().execute(rows)
        )
    written = merged.num_inserted_rows + merged.num_updated_rows
    if written != rows.num_rows:
        raise StoreError(f"{written} of {rows.num_rows} rows were written to {generation_table.uri}")
    return written


@side_effect
def rows_deleted(generation_table: lancedb.table.Table, expired_ids: pa.Array) -> int:
    """The number of rows deleted; ids that are not there count for nothing."""
    deleted = 0
    for ids in id_batches(expired_ids, IDS_PER_CALL):
        where = tables.among("id", ids)
        with tables.reported(f"rows could not be deleted from {generation_table.uri}"):
            deleted += generation_table.delete(where).num_deleted_rows
    return deleted


def row_count(generation_table: lancedb.table.Table) -> int:
    """The exact number of rows."""
    with tables.reported(f"the rows of {generation_table.uri} could not be counted"):
        return generation_table.count_rows()


def version(generation_table: lancedb.table.Table) -> int | None:
    """A number for what the generation holds now, to return to."""
    with tables.reported(f"the version of {generation_table.uri} could not be read"):
        return int(generation_table.version)


@side_effect
def restored(generation_table: lancedb.table.Table, earlier_version: int) -> int:
    """The number of rows, after the generation holds again what it held at that version."""
    with tables.reported(f"version {earlier_version} of {generation_table.uri} could not be restored"):
        generation_table.checkout(earlier_version)
        generation_table.restore()
        generation_table.checkout_latest()
    return row_count(generation_table)


def earlier_table(client: Database, generation: str, earlier_version: int) -> lancedb.table.Table:
    """The generation as it was at that version, to be searched."""
    with tables.reported(f"version {earlier_version} of {generation!r} could not be opened"):
        table = client.connection.open_table(generation)
        table.checkout(earlier_version)
    return table


@side_effect
def index_built(
    generation_table: lancedb.table.Table, metric: str, store_settings: LanceDBSettings, kept_version: int | None
) -> str:
    """What searches use. Compacts the table; builds the vector index once there are enough rows, or folds new
    rows into it; returns when it serves, and has been compared with exact search. Below `index_min_rows` search is
    exact, and where the index finds less than `index_min_recall` of what exact search finds: then it is dropped.
    Versions that are a week old are removed; the one to be kept, and later ones, stay.
    """
    rows = row_count(generation_table)
    with tables.reported(f"the index of {generation_table.uri} could not be built"):
        index.build(generation_table, rows, metric, store_settings.index_min_rows)
        index.compact(generation_table, kept_version)
        recall = index.kept_recall(generation_table, metric, store_settings.index_min_recall)
    if recall is None:
        return f"none: exact search over {rows} rows"
    return f"IVF_SQ over {rows} rows, recall@{index.DEPTH} {recall:.3f} of exact search"


def matches(
    generation_table: lancedb.table.Table,
    query_vectors: np.ndarray,
    top_k: int,
    metric: str,
    filter: dict[str, str],
) -> pa.Table:
    """The nearest rows of each query, as `record_checks.match_schema` says. `query_vectors`: float32 [q, d]."""
    where = tables.equal(checked_filter(filter, text_columns(generation_table.schema)))
    return nearest_rows(generation_table, query_vectors, metric, top_k, where)


def generation_records(client: Database, collection_name: str) -> dict[str, StoredRecord]:
    """The records of the collection's generations that exist, by the generation's name."""
    return catalog.records(client, collection_name)


@side_effect
def record_stored(
    client: Database, collection_name: str, generation: str, record_text: str, expected_revision: int
) -> StoredRecord:
    """The record, written in place of the one with the expected revision; 0: the generation has none yet.

    Raises StaleRecordError when the stored record has another revision, StoreError when there is no such generation.
    """
    return catalog.write_record(client, collection_name, generation, record_text, expected_revision)


def live_generation(client: Database, collection_name: str) -> LivePointer | None:
    """The live pointer; None before the first promotion."""
    return catalog.pointer(client, collection_name)


@side_effect
def promoted(client: Database, collection_name: str, generation: str, expected_live: str | None) -> LivePointer:
    """The live pointer, moved to the generation.

    Raises StaleLiveError when `expected_live` is not what was live, StoreError when there is no such generation.
    """
    existing = catalog.records(client, collection_name)
    read, move = partial(catalog.pointer, client, collection_name), partial(catalog.moved, client)
    return promote(collection_name, generation, expected_live, existing, read, move)


@side_effect
def dropped(client: Database, collection_name: str, generation: str) -> str:
    """The generation, after it was removed. Raises StoreError for the live one, and for another collection's."""
    refuse_live(collection_name, generation, catalog.pointer(client, collection_name))
    if owner := catalog.owner(client, generation):
        refuse_foreign(collection_name, generation, owner)
    with tables.reported(f"{generation!r} could not be dropped from {client.uri}"):
        if generation in tables.table_names(client):
            client.connection.drop_table(generation, ignore_missing=True)
        if owner:
            catalog.remove_record(client, generation)
    return generation
