"""pgvector: a schema of a Postgres database that has the vector extension.

A generation is a table. What is known about the generations, and which one is live, is in two more (catalog.py).
"""

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import psycopg
import pyarrow as pa
from psycopg.sql import SQL, Composed, Identifier, Literal

from squadron.errors import StoreError
from squadron.settings.store_sections import PgvectorSettings
from squadron.stores.contract import LivePointer, StoredRecord
from squadron.stores.live_pointer import next_pointer, refuse_live, stale_pointer
from squadron.stores.pgvector import catalog, schema
from squadron.stores.pgvector.connection import Database
from squadron.stores.pgvector.schema import Table
from squadron.stores.record_checks import checked_filter, distinct_records, match_schema, refuse_other
from squadron.stores.record_schema import RECORD_COLUMNS, VECTOR_COLUMN, record_schema
from squadron.stores.side_effects import side_effect

IDS_PER_CALL = 10_000
# What an index takes, and how many candidates a search of it can weigh: pgvector's limits.
MAX_INDEXED_DIMENSION, MAX_CANDIDATES = 2_000, 1_000
# Distance operator, class of the index, and the score: of `<#>`, which is minus the inner product, too.
_METRICS = {
    "cosine": (SQL("<=>"), SQL("vector_cosine_ops"), SQL("1 - _distance")),
    "dot": (SQL("<#>"), SQL("vector_ip_ops"), SQL("-_distance")),
    "l2": (SQL("<->"), SQL("vector_l2_ops"), SQL("-(_distance ^ 2)")),
}
_TYPES = {"ordinal": "int4", VECTOR_COLUMN: "vector"}


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
    wanted = record_schema(
        generation_table.dimension, [name for name in generation_table.columns if name not in RECORD_COLUMNS]
    )
    read = [SQL("{}::real[]" if name == VECTOR_COLUMN else "{}").format(Identifier(name)) for name in wanted.names]
    query = SQL("SELECT {} FROM {} WHERE id = ANY(%s)").format(SQL(", ").join(read), generation_table.quoted)
    parts = [wanted.empty_table()]
    for start in range(0, len(wanted_ids), IDS_PER_CALL):
        found = _read(
            generation_table, "rows could not be read", query, wanted_ids[start : start + IDS_PER_CALL].to_pylist()
        )
        columns = zip(*found, strict=True) if found else [()] * len(wanted)
        parts.append(pa.table(dict(zip(wanted.names, map(list, columns), strict=True)), wanted))
    return pa.concat_tables(parts)


@side_effect
def rows_written(generation_table: Table, records: pa.Table) -> int:
    """The number of distinct records written. Ids that are there already are replaced.

    Postgres keeps no U+0000 in a text: U+FFFD is stored in its place.
    """
    if not records.num_rows:
        return 0
    records = distinct_records(records, generation_table.dimension, generation_table.name)
    names = [name for name in generation_table.columns if name in records.column_names]
    updates = SQL(", ").join(
        SQL("{0} = EXCLUDED.{0}").format(Identifier(name)) for name in generation_table.columns[1:]
    )
    incoming = SQL("CREATE TEMP TABLE incoming (LIKE {}) ON COMMIT DROP").format(generation_table.quoted)
    copied = SQL("COPY incoming ({}) FROM STDIN (FORMAT BINARY)").format(schema.listed(names))
    # In the order of their ids, lest two writers of the same rows wait for each other for ever.
    merged = SQL(schema.MERGE).format(generation_table.quoted, schema.listed(generation_table.columns), updates)
    columns = [schema.values(records[name]) for name in names]

    def write(connection: psycopg.Connection) -> int:
        with connection.transaction(), connection.cursor() as cursor:
            cursor.execute(incoming)
            with cursor.copy(copied) as copy:
                copy.set_types([_TYPES.get(name, "text") for name in names])
                for row in zip(*columns, strict=True):
                    copy.write_row(row)
            return cursor.execute(merged).rowcount

    return generation_table.database.answered(
        f"{len(records)} rows could not be written to {generation_table.name!r}", write
    )


@side_effect
def rows_deleted(generation_table: Table, expired_ids: pa.Array) -> int:
    """The number of rows deleted; ids that are not there count for nothing."""
    delete, deleted = SQL("DELETE FROM {} WHERE id = ANY(%s)").format(generation_table.quoted), 0
    for start in range(0, len(expired_ids), IDS_PER_CALL):
        ids = expired_ids[start : start + IDS_PER_CALL].to_pylist()
        deleted += generation_table.database.answered(
            f"rows could not be deleted from {generation_table.name!r}",
            lambda connection, ids=ids: connection.execute(delete, [ids]).rowcount,  # type: ignore[misc]
        )
    return deleted


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
    """Raises StoreError: there is nothing to return to."""
    raise StoreError(f"Postgres keeps no earlier versions: {generation_table.name!r} stays as it is")


def earlier_table(client: Database, generation: str, earlier_version: int) -> Table:
    """Raises StoreError: there is none."""
    raise StoreError(f"Postgres keeps no earlier versions: {generation!r} is what it is now")


@side_effect
def index_built(
    generation_table: Table, metric: str, store_settings: PgvectorSettings, kept_version: int | None
) -> str:
    """What searches use. Vacuums the table; builds an HNSW index once there are enough rows, to which Postgres adds
    later ones. Below `index_min_rows`, and for vectors wider than pgvector indexes, search is exact.
    """
    rows, index = row_count(generation_table), f"{generation_table.name}_hnsw"

    def build(connection: psycopg.Connection) -> bool:
        if rows >= store_settings.index_min_rows and generation_table.dimension <= MAX_INDEXED_DIMENSION:
            create = SQL("CREATE INDEX IF NOT EXISTS {} ON {} USING hnsw (vector {})")
            connection.execute(create.format(Identifier(index), generation_table.quoted, _METRICS[metric][1]))
        connection.execute(SQL("VACUUM (ANALYZE) {}").format(generation_table.quoted))
        return schema.rows(connection, "SELECT to_regclass(quote_ident(%s))", index) != [(None,)]

    built = generation_table.database.answered(f"the index of {generation_table.name!r} could not be built", build)
    return f"HNSW over {rows} rows" if built else f"none: exact search over {rows} rows"


def matches(
    generation_table: Table, query_vectors: np.ndarray, top_k: int, metric: str, filter: dict[str, str]
) -> pa.Table:
    """The nearest rows of each query, as `record_checks.match_schema` says. `query_vectors`: float32 [q, d].

    Exact where there is a filter: an index would choose the nearest first, and then filter them.
    """
    choices = [name for name in generation_table.columns if name not in _TYPES]
    values = {name: schema.storable(value) for name, value in checked_filter(filter, choices).items()}
    candidates = max(100, 2 * top_k)
    exact = bool(values) or candidates > MAX_CANDIDATES
    operator, _, score = _METRICS[metric]
    wanted = match_schema(name for name in generation_table.columns if name not in RECORD_COLUMNS)
    search = SQL(schema.SEARCH).format(
        columns=SQL(", ").join(score if name == "score" else Identifier(name) for name in wanted.names[2:]),
        table=generation_table.quoted,
        operator=operator,
        where=SQL(" AND ").join([SQL("true"), *(SQL("{} = %s").format(Identifier(name)) for name in values)]),
        order=SQL("_distance + 0" if exact else "_distance"),  # no index is on the sum
        limit=Literal(top_k),
    )

    def searched(connection: psycopg.Connection) -> list[tuple[Any, ...]]:
        found = []
        with connection.transaction():
            if not exact:
                connection.execute(f"SET LOCAL hnsw.ef_search = {candidates}")
            for query, vector in enumerate(query_vectors):
                nearest = schema.rows(connection, search, vector, *values.values())
                found += [(query, rank, *row) for rank, row in enumerate(nearest, start=1)]
        return found

    found = generation_table.database.answered(f"{generation_table.name!r} could not be searched", searched)
    columns = zip(*found, strict=True) if found else [()] * len(wanted)
    return pa.table(dict(zip(wanted.names, map(list, columns), strict=True)), wanted)


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
    before = catalog.pointer(client, collection_name)
    existing = catalog.records(client, collection_name)
    pointer = next_pointer(collection_name, generation, existing, before, expected_live)
    if pointer != before and not catalog.moved(client, pointer):
        raise stale_pointer(collection_name, generation, catalog.pointer(client, collection_name), expected_live)
    return pointer


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
