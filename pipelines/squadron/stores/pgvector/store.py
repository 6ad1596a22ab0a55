"""pgvector: a schema of a Postgres database that has the vector extension.

A generation is a table. What is known about the generations, and which one is live, is in two more (catalog.py).
"""

from collections.abc import Iterator, Sequence
from functools import partial
from typing import Any

import numpy as np
import psycopg
import pyarrow as pa
from psycopg.sql import SQL, Composed, Identifier

from squadron.errors import StoreError
from squadron.settings.store_sections import PgvectorSettings
from squadron.stores.batches import id_batches
from squadron.stores.contract import LivePointer, StoredRecord
from squadron.stores.live_pointer import promote, refuse_live
from squadron.stores.pgvector import catalog, schema, search
from squadron.stores.pgvector.connection import Database
from squadron.stores.pgvector.rows import write
from squadron.stores.pgvector.schema import Table
from squadron.stores.record_checks import distinct_records, refuse_other
from squadron.stores.record_schema import VECTOR_COLUMN, record_schema
from squadron.stores.side_effects import side_effect

IDS_PER_CALL = 10_000


def client(store_settings: PgvectorSettings) -> Database:
    """The database, its schema there. Raises StoreError, naming the setting, when it cannot be connected to."""
    database = Database(store_settings)
    database.answered("the database does not answer", lambda connection: connection.execute("SELECT 1"))
    return database


@side_effect
def generation_table(
    client: Database,
    collection_name: str,
    generation: str,
    dimension: int,
    metric: str,
    metadata_columns: Sequence[str],
) -> Table:
    """The generation's table, created if absent; metadata columns that it lacks are added.

    Raises StoreError when it exists with another dimension or metric.
    """

    def opened(connection: psycopg.Connection) -> Table:
        while not (found := schema.opened(client, connection, generation)):
            schema.create(connection, collection_name, generation, dimension, metric)
        table, found_metric = found
        refuse_other(generation, "dimension", table.dimension, dimension)
        refuse_other(generation, "metric", found_metric, metric)
        missing = [name for name in metadata_columns if name not in table.columns]
        for name in missing:
            add = SQL("ALTER TABLE {} ADD COLUMN IF NOT EXISTS {} text")
            connection.execute(add.format(table.quoted, Identifier(name)))
        return Table(client, generation, dimension, (*table.columns, *missing))

    return client.answered(f"generation {generation!r} could not be opened", opened)


def stored_ids(generation_table: Table) -> Iterator[pa.Array]:
    """All ids of the generation, streamed."""
    page = SQL("SELECT id FROM {} WHERE id > %s ORDER BY id LIMIT {}").format(generation_table.quoted, IDS_PER_CALL)
    last = ""
    while True:
        ids = [key for (key,) in _read(generation_table, "ids could not be read", page, last)]
        if not ids:
            return
        yield pa.array(ids, pa.string())
        last = ids[-1]


def stored_rows(generation_table: Table, wanted_ids: pa.Array) -> pa.Table:
    """Those of the rows that are there, as `record_schema.record_schema` says, in no order."""
    columns = record_schema(generation_table.dimension, generation_table.metadata_columns)
    names = [SQL("{}::real[]" if name == VECTOR_COLUMN else "{}").format(Identifier(name)) for name in columns.names]
    query = SQL("SELECT {} FROM {} WHERE id = ANY(%s)").format(SQL(", ").join(names), generation_table.quoted)
    parts = [columns.empty_table()]
    for ids in id_batches(wanted_ids, IDS_PER_CALL):
        parts.append(schema.arrow(_read(generation_table, "rows could not be read", query, ids), columns))
    return pa.concat_tables(parts)


@side_effect
def rows_written(generation_table: Table, records: pa.Table) -> int:
    """The number of distinct records written. Ids that are there already are replaced.

    Postgres keeps no U+0000 in a text: U+FFFD is stored in its place.
    """
    if not records.num_rows:
        return 0
    records = distinct_records(records, generation_table.dimension, generation_table.name)
    return write(generation_table, records)


@side_effect
def rows_deleted(generation_table: Table, expired_ids: pa.Array) -> int:
    """The number of rows deleted; ids that are not there count for nothing."""
    delete = SQL("DELETE FROM {} WHERE id = ANY(%s)").format(generation_table.quoted)
    failed = f"rows could not be deleted from {generation_table.name!r}"

    def deleted(ids: list[str]) -> int:
        return generation_table.database.answered(failed, lambda connection: connection.execute(delete, [ids]).rowcount)

    return sum(map(deleted, id_batches(expired_ids, IDS_PER_CALL)))


def row_count(generation_table: Table) -> int:
    """The exact number of rows."""
    counted = SQL("SELECT count(*) FROM {}").format(generation_table.quoted)
    ((rows,),) = _read(generation_table, "rows could not be counted", counted)
    return rows


def version(generation_table: Table) -> int | None:
    """None: Postgres keeps no earlier versions."""
    return None


@side_effect
def restored(generation_table: Table, earlier_version: int) -> int:
    """Raises StoreError: there is no earlier version to return to."""
    raise StoreError(f"Postgres keeps no earlier versions: {generation_table.name!r} was not changed")


def earlier_table(client: Database, generation: str, earlier_version: int) -> Table:
    """Raises StoreError: there is no earlier version."""
    raise StoreError(f"Postgres keeps no earlier versions of {generation!r}")


@side_effect
def index_built(
    generation_table: Table, metric: str, store_settings: PgvectorSettings, kept_version: int | None
) -> str:
    """What searches use. Vacuums the table; builds an HNSW index once there are enough rows, to which Postgres adds
    later ones. Below `index_min_rows`, and for vectors wider than pgvector indexes, search is exact.
    """
    rows = row_count(generation_table)
    if search.indexed(generation_table, metric, build=rows >= store_settings.index_min_rows):
        return f"HNSW over {rows} rows"
    return f"none: exact search over {rows} rows"


def matches(
    generation_table: Table, query_vectors: np.ndarray, top_k: int, metric: str, filter: dict[str, str]
) -> pa.Table:
    """The nearest rows of each query, as `record_checks.match_schema` says. `query_vectors`: float32 [q, d].

    Exact where there is a filter: an index would choose the nearest first, and then filter them.
    """
    return search.nearest_rows(generation_table, query_vectors, top_k, metric, filter)


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

    def drop(connection: psycopg.Connection) -> None:
        with connection.transaction():
            # Refused by `_live`, which refers to it, should another run have promoted it just now.
            delete = "DELETE FROM _generations WHERE generation = %s RETURNING collection"
            deleted = schema.rows(connection, delete, generation)
            if deleted not in ([], [(collection_name,)]):
                raise StoreError(f"{generation!r} is of collection {deleted[0][0]!r}: it was not dropped")
            connection.execute(SQL("DROP TABLE IF EXISTS {}").format(Identifier(generation)))

    client.answered(f"{generation!r} could not be dropped", drop)
    return generation


def _read(generation_table: Table, failed: str, query: SQL | Composed, *values: object) -> list[tuple[Any, ...]]:
    """What the query answers."""
    said = f"{generation_table.name!r}: {failed}"
    return generation_table.database.answered(said, lambda connection: schema.rows(connection, query, *values))
