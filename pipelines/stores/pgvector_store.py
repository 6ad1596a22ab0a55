"""pgvector: a schema of a Postgres database that has the vector extension.

A generation is a table. Two more tables keep the books: `_generations` describes each generation, `_live` says
which one a collection points at. Its rows bear a revision, and an update takes effect only on the revision
before it: compare-and-set.
"""

import json
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import psycopg
import pyarrow as pa
from psycopg.sql import SQL, Identifier, Literal

from pipelines.dataflow.records import RECORD_COLUMNS, VECTOR_COLUMN, record_schema
from pipelines.errors import StoreError
from pipelines.store_settings import PgvectorSettings
from pipelines.stores import pgvector_schema as schema
from pipelines.stores.checks import MATCH_SCHEMA, checked_filter, distinct_records, refuse_other
from pipelines.stores.pgvector_schema import Table
from pipelines.stores.pointer import next_pointer, refuse_live, stale

IDS_PER_CALL = 10_000
# What an index takes, and how many candidates a search of it can weigh: pgvector's limits.
MAX_INDEXED_DIMENSION, MAX_CANDIDATES = 2_000, 1_000
# Distance operator, class of the index, and the score: of `<#>`, which is minus the inner product, too.
_METRICS = {
    "cosine": (SQL("<=>"), SQL("vector_cosine_ops"), SQL("1 - distance")),
    "dot": (SQL("<#>"), SQL("vector_ip_ops"), SQL("-distance")),
    "l2": (SQL("<->"), SQL("vector_l2_ops"), SQL("-(distance ^ 2)")),
}
_TYPES = {"ordinal": "int4", VECTOR_COLUMN: "vector"}


def client(store_settings: PgvectorSettings) -> psycopg.Connection:
    """The connection, its schema there. Raises StoreError, naming the setting, when it cannot be made."""
    return schema.connected(store_settings.uri, store_settings.schema_name)


def collection(
    client: psycopg.Connection,
    collection_name: str,
    generation: str,
    dimension: int,
    metric: str,
    metadata_columns: Sequence[str],
) -> Table:
    """The generation's table, created if absent; metadata columns that it lacks are added.

    Raises StoreError when it exists with another dimension or metric.
    """
    with schema.reported(f"generation {generation!r} could not be opened"):
        found = schema.opened(client, generation)
        if not found:
            schema.create(client, collection_name, generation, dimension, metric)
            return collection(client, collection_name, generation, dimension, metric, metadata_columns)
        table, found_metric = found
        refuse_other(generation, "dimension", table.dimension, dimension)
        refuse_other(generation, "metric", found_metric, metric)
        if not (missing := [name for name in metadata_columns if name not in table.columns]):
            return table
        for name in missing:
            add = SQL("ALTER TABLE {} ADD COLUMN IF NOT EXISTS {} text")
            client.execute(add.format(table.quoted, Identifier(name)))
        return Table(client, generation, dimension, (*table.columns, *missing))


def stored_ids(collection: Table) -> Iterator[pa.Array]:
    """All ids of the generation, streamed."""
    page = SQL("SELECT id FROM {} WHERE id > %s ORDER BY id LIMIT {}").format(collection.quoted, IDS_PER_CALL)
    last = ""
    while True:
        with schema.reported(f"the ids of {collection.name!r} could not be read"):
            ids = [key for (key,) in schema.rows(collection.connection, page, last)]
        if not ids:
            return
        yield pa.array(ids, pa.string())
        last = ids[-1]


def stored_rows(collection: Table, wanted_ids: pa.Array) -> pa.Table:
    """Those of the rows that are there, as `records.record_schema` says, in no order."""
    wanted = record_schema(collection.dimension, [name for name in collection.columns if name not in RECORD_COLUMNS])
    read = [SQL("{}::real[]" if name == VECTOR_COLUMN else "{}").format(Identifier(name)) for name in wanted.names]
    query = SQL("SELECT {} FROM {} WHERE id = ANY(%s)").format(SQL(", ").join(read), collection.quoted)
    parts = [wanted.empty_table()]
    for start in range(0, len(wanted_ids), IDS_PER_CALL):
        with schema.reported(f"rows of {collection.name!r} could not be read"):
            found = schema.rows(collection.connection, query, wanted_ids[start : start + IDS_PER_CALL].to_pylist())
        columns = zip(*found, strict=True) if found else [()] * len(wanted)
        parts.append(pa.table(dict(zip(wanted.names, map(list, columns), strict=True)), wanted))
    return pa.concat_tables(parts)


def rows_written(collection: Table, records: pa.Table) -> int:
    """The number of distinct records written. Ids that are there already are replaced.

    Postgres keeps no U+0000 in a text: U+FFFD is stored in its place.
    """
    if not records.num_rows:
        return 0
    records = distinct_records(records, collection.dimension, collection.name)
    names = [name for name in collection.columns if name in records.column_names]
    updates = SQL(", ").join(SQL("{0} = EXCLUDED.{0}").format(Identifier(name)) for name in collection.columns[1:])
    incoming = SQL("CREATE TEMP TABLE incoming (LIKE {}) ON COMMIT DROP").format(collection.quoted)
    copied = SQL("COPY incoming ({}) FROM STDIN (FORMAT BINARY)").format(schema.listed(names))
    # In the order of their ids, lest two writers of the same rows wait for each other for ever.
    merged = SQL(schema.MERGE).format(collection.quoted, schema.listed(collection.columns), updates)
    failed = f"{len(records)} rows could not be written to {collection.name!r}"
    with schema.reported(failed), collection.connection.transaction(), collection.connection.cursor() as cursor:
        cursor.execute(incoming)
        with cursor.copy(copied) as copy:
            copy.set_types([_TYPES.get(name, "text") for name in names])
            for row in zip(*(schema.values(records[name]) for name in names), strict=True):
                copy.write_row(row)
        return cursor.execute(merged).rowcount


def rows_deleted(collection: Table, expired_ids: pa.Array) -> int:
    """The number of rows deleted; ids that are not there count for nothing."""
    delete, deleted = SQL("DELETE FROM {} WHERE id = ANY(%s)").format(collection.quoted), 0
    for start in range(0, len(expired_ids), IDS_PER_CALL):
        ids = expired_ids[start : start + IDS_PER_CALL].to_pylist()
        with schema.reported(f"rows could not be deleted from {collection.name!r}"):
            deleted += collection.connection.execute(delete, [ids]).rowcount
    return deleted


def row_count(collection: Table) -> int:
    """The exact number of rows."""
    with schema.reported(f"the rows of {collection.name!r} could not be counted"):
        ((rows,),) = schema.rows(collection.connection, SQL("SELECT count(*) FROM {}").format(collection.quoted))
    return rows


def version(collection: Table) -> int | None:
    """None: Postgres keeps no earlier versions."""
    return None


def restored(collection: Table, earlier_version: int) -> int:
    """Raises StoreError: there is nothing to return to."""
    raise StoreError(f"Postgres keeps no earlier versions: {collection.name!r} stays as it is")


def index_built(collection: Table, metric: str, store_settings: PgvectorSettings) -> str:
    """What searches use. Vacuums the table; builds an HNSW index once there are enough rows, to which Postgres adds
    later ones. Below `index_min_rows`, and for vectors wider than pgvector indexes, search is exact.
    """
    client, rows, index = collection.connection, row_count(collection), f"{collection.name}_hnsw"
    with schema.reported(f"the index of {collection.name!r} could not be built"):
        if rows >= store_settings.index_min_rows and collection.dimension <= MAX_INDEXED_DIMENSION:
            build = SQL("CREATE INDEX IF NOT EXISTS {} ON {} USING hnsw (vector {})")
            client.execute(build.format(Identifier(index), collection.quoted, _METRICS[metric][1]))
        client.execute(SQL("VACUUM (ANALYZE) {}").format(collection.quoted))
        built = schema.rows(client, "SELECT to_regclass(quote_ident(%s))", index) != [(None,)]
    return f"HNSW over {rows} rows" if built else f"none: exact search over {rows} rows"


def matches(collection: Table, query_vectors: np.ndarray, top_k: int, metric: str, filter: dict[str, str]) -> pa.Table:
    """The nearest rows of each query, as `stores.checks.MATCH_SCHEMA` says. `query_vectors`: float32 [q, d].

    Exact where there is a filter: an index would choose the nearest first, and then filter them.
    """
    choices = [name for name in collection.columns if name not in _TYPES]
    values = {name: schema.storable(value) for name, value in checked_filter(filter, choices).items()}
    candidates = max(100, 2 * top_k)
    exact = bool(values) or candidates > MAX_CANDIDATES
    operator, _, score = _METRICS[metric]
    search = SQL(schema.SEARCH).format(
        table=collection.quoted,
        operator=operator,
        score=score,
        where=SQL(" AND ").join([SQL("true"), *(SQL("{} = %s").format(Identifier(name)) for name in values)]),
        order=SQL("distance + 0" if exact else "distance"),  # no index is on the sum
        limit=Literal(top_k),
    )
    found: list[tuple[Any, ...]] = []
    with schema.reported(f"{collection.name!r} could not be searched"), collection.connection.transaction():
        if not exact:
            collection.connection.execute(f"SET LOCAL hnsw.ef_search = {candidates}")
        for query, vector in enumerate(query_vectors):
            nearest = schema.rows(collection.connection, search, vector, *values.values())
            found += [(query, rank, *row) for rank, row in enumerate(nearest, start=1)]
    columns = zip(*found, strict=True) if found else [()] * len(MATCH_SCHEMA)
    return pa.table(dict(zip(MATCH_SCHEMA.names, map(list, columns), strict=True)), MATCH_SCHEMA)


def generations(client: psycopg.Connection, collection_name: str) -> dict[str, dict[str, Any]]:
    """The collection's generations that exist, by name, with their descriptions."""
    query = "SELECT generation, description FROM _generations WHERE collection = %s ORDER BY generation"
    with schema.reported("the generations could not be read"):
        return dict(schema.rows(client, query, collection_name))


def described(client: psycopg.Connection, collection_name: str, generation: str, description: dict[str, Any]) -> str:
    """The generation, after its description was stored in place of the one before."""
    update = "UPDATE _generations SET description = %s WHERE generation = %s AND collection = %s"
    with schema.reported(f"{generation!r} could not be described"):
        client.execute(update, [json.dumps(description), generation, collection_name])
    return generation


def live_generation(client: psycopg.Connection, collection_name: str) -> dict[str, Any] | None:
    """The live pointer: generation, previous, revision, promoted_at; None before the first promotion."""
    with schema.reported("the live generation could not be read"):
        cursor = client.cursor(row_factory=psycopg.rows.dict_row)
        return cursor.execute("SELECT * FROM _live WHERE collection = %s", [collection_name]).fetchone()


def promoted(
    client: psycopg.Connection, collection_name: str, generation: str, expected_live: str | None
) -> dict[str, Any]:
    """The live pointer, moved to the generation.

    Raises StaleLiveError when `expected_live` is not what was live, StoreError when there is no such generation.
    """
    before = live_generation(client, collection_name)
    existing = generations(client, collection_name)
    pointer = next_pointer(collection_name, generation, existing, before, expected_live)
    if pointer == before:
        return pointer
    with schema.reported(f"{generation!r} could not be promoted"):
        moved = client.execute(schema.MOVE, pointer).rowcount
    if not moved:
        now = live_generation(client, collection_name)
        raise stale(collection_name, generation, now["generation"] if now else None, expected_live)
    return pointer


def dropped(client: psycopg.Connection, collection_name: str, generation: str) -> str:
    """The generation, after it was removed. Raises StoreError for the live one, and for another collection's."""
    refuse_live(collection_name, generation, live_generation(client, collection_name))
    with schema.reported(f"{generation!r} could not be dropped"), client.transaction():
        # Refused by `_live`, which refers to it, should another run have promoted it just now.
        deleted = schema.rows(client, "DELETE FROM _generations WHERE generation = %s RETURNING collection", generation)
        if deleted not in ([], [(collection_name,)]):
            raise StoreError(f"{generation!r} is of collection {deleted[0][0]!r}: it was not dropped")
        client.execute(SQL("DROP TABLE IF EXISTS {}").format(Identifier(generation)))
    return generation
