"""LanceDB: a directory of tables, no server.

A generation is a table. Two more tables keep the books: `_generations` describes each generation, `_live` says
which one a collection points at. Its rows bear a revision, and an update takes effect only on the revision
before it: compare-and-set.
"""

import json
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from typing import Any

import lancedb
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from pipelines.dataflow.records import VECTOR_COLUMN, record_schema
from pipelines.errors import StaleLiveError, StoreError
from pipelines.settings import LanceDBSettings
from pipelines.stores.checks import MATCH_SCHEMA, checked_filter, distinct_records, refuse_other

IDS_PER_DELETE = 5_000
QUERIES_PER_SEARCH = 100
# Where an index is searched: probes and refinement that keep recall@10 above .99 (benchmarks/scale).
PROBES, REFINE_FACTOR = 20, 10
ROWS_PER_PARTITION = 4_096
_METRIC = b"squadron.metric"
_LIVE = pa.schema(
    [
        pa.field("collection", pa.string(), nullable=False),
        pa.field("generation", pa.string()),
        pa.field("previous", pa.string()),
        pa.field("revision", pa.int64()),
        pa.field("promoted_at", pa.string()),
    ]
)
_GENERATIONS = pa.schema(
    [
        pa.field("generation", pa.string(), nullable=False),
        pa.field("collection", pa.string()),
        pa.field("description", pa.string()),
    ]
)


def client(store_settings: LanceDBSettings) -> lancedb.DBConnection:
    """The connected database. Raises StoreError, naming the setting, when the place cannot be used."""
    try:
        connected = lancedb.connect(store_settings.uri)
        connected.list_tables()
    except (OSError, RuntimeError, ValueError) as error:
        raise StoreError(f"store.lancedb.uri {store_settings.uri!r} cannot be used: {error}") from error
    return connected


def collection(
    client: lancedb.DBConnection,
    collection_name: str,
    generation: str,
    dimension: int,
    metric: str,
    metadata_columns: Sequence[str],
) -> lancedb.table.Table:
    """The generation's table, created if absent; metadata columns that it lacks are added.

    Raises StoreError when it exists with another dimension or metric.
    """
    schema = record_schema(dimension, metadata_columns).with_metadata({_METRIC: metric})
    table = _open_or_create(client, generation, schema, key="id")
    found = table.schema
    refuse_other(generation, "dimension", found.field(VECTOR_COLUMN).type.list_size, dimension)
    refuse_other(generation, "metric", (found.metadata or {}).get(_METRIC, b"").decode(), metric)
    if missing := [field for field in schema if field.name not in found.names]:
        table.add_columns(pa.schema(missing))
    if not _rows(client, "_generations", generation=generation):
        described(client, collection_name, generation, {})
    return table


def stored_ids(collection: lancedb.table.Table) -> Iterator[pa.Array]:
    """All ids of the generation, streamed."""
    for batch in collection.search().select(["id"]).to_batches():
        yield batch.column("id")


def rows_written(collection: lancedb.table.Table, records: pa.Table) -> int:
    """The number of distinct records written. Ids that are there already are replaced."""
    names = collection.schema.names
    dimension = collection.schema.field(VECTOR_COLUMN).type.list_size
    if not records.num_rows:
        return 0
    records = distinct_records(records, dimension, collection.name)
    for name in set(names) - set(records.column_names):
        records = records.append_column(name, pa.nulls(records.num_rows, pa.string()))
    rows = records.select(names).cast(collection.schema)
    try:
        merged = collection.merge_insert("id").when_matched_update_all().when_not_matched_insert_all().execute(rows)
    except (OSError, RuntimeError, ValueError) as error:
        raise StoreError(f"{rows.num_rows} rows could not be written to {collection.uri}: {error}") from error
    written = merged.num_inserted_rows + merged.num_updated_rows
    if written != rows.num_rows:
        raise StoreError(f"{written} of {rows.num_rows} rows were written to {collection.uri}")
    return written


def rows_deleted(collection: lancedb.table.Table, expired_ids: pa.Array) -> int:
    """The number of rows deleted; ids that are not there count for nothing."""
    deleted = 0
    for start in range(0, len(expired_ids), IDS_PER_DELETE):
        ids = ", ".join(_quoted(i) for i in expired_ids[start : start + IDS_PER_DELETE].to_pylist())
        try:
            deleted += collection.delete(f"id IN ({ids})").num_deleted_rows
        except (OSError, RuntimeError, ValueError) as error:
            raise StoreError(f"rows could not be deleted from {collection.uri}: {error}") from error
    return deleted


def row_count(collection: lancedb.table.Table) -> int:
    """The exact number of rows."""
    return collection.count_rows()


def index_built(collection: lancedb.table.Table, metric: str, store_settings: LanceDBSettings) -> str:
    """What searches use. Compacts the table; builds the vector index once there are enough rows, or folds new
    rows into it; returns when it serves. Below `index_min_rows` search is exact.
    """
    rows = collection.count_rows()
    indexed = [index.name for index in collection.list_indices() if VECTOR_COLUMN in index.columns]
    if rows >= store_settings.index_min_rows and not indexed:
        config = lancedb.index.IvfSq(distance_type=metric, num_partitions=max(1, rows // ROWS_PER_PARTITION))
        collection.create_index(VECTOR_COLUMN, config=config)
        indexed = [index.name for index in collection.list_indices() if VECTOR_COLUMN in index.columns]
    collection.optimize()
    if indexed:
        collection.wait_for_index(indexed)
    return f"IVF_SQ over {rows} rows" if indexed else f"none: exact search over {rows} rows"


def matches(
    collection: lancedb.table.Table,
    query_vectors: np.ndarray,
    top_k: int,
    metric: str,
    filter: dict[str, str],
) -> pa.Table:
    """The nearest rows of each query, as `stores.checks.MATCH_SCHEMA` says. `query_vectors`: float32 [q, d]."""
    if not len(query_vectors):
        return MATCH_SCHEMA.empty_table()
    names = [name for name in collection.schema.names if name != VECTOR_COLUMN]
    where = " AND ".join(f"{n} = {_quoted(v)}" for n, v in checked_filter(filter, names).items())
    parts = []
    for start in range(0, len(query_vectors), QUERIES_PER_SEARCH):
        vectors = query_vectors[start : start + QUERIES_PER_SEARCH]
        search = collection.search(vectors, vector_column_name=VECTOR_COLUMN)
        search = search.distance_type(metric).nprobes(PROBES).refine_factor(REFINE_FACTOR).limit(top_k)
        search = search.where(where, prefilter=True) if where else search
        found = search.select([*MATCH_SCHEMA.names[2:-1], "_distance"]).to_arrow()
        parts.append(_matches(found, start, metric))
    return pa.concat_tables(parts)


def generations(client: lancedb.DBConnection, collection_name: str) -> dict[str, dict[str, Any]]:
    """The collection's generations that exist, by name, with their descriptions."""
    existing = _table_names(client)
    rows = _rows(client, "_generations", collection=collection_name)
    return {row["generation"]: json.loads(row["description"]) for row in rows if row["generation"] in existing}


def described(client: lancedb.DBConnection, collection_name: str, generation: str, description: dict[str, Any]) -> str:
    """The generation, after its description was stored in place of the one before."""
    row = {"generation": generation, "collection": collection_name, "description": json.dumps(description)}
    table = _open_or_create(client, "_generations", _GENERATIONS, key="generation")
    merge = table.merge_insert("generation").when_matched_update_all().when_not_matched_insert_all()
    merge.execute(pa.Table.from_pylist([row], _GENERATIONS))
    return generation


def live_generation(client: lancedb.DBConnection, collection_name: str) -> dict[str, Any] | None:
    """The live pointer: generation, previous, revision, promoted_at; None before the first promotion."""
    rows = _rows(client, "_live", collection=collection_name)
    return rows[0] if rows else None


def promoted(
    client: lancedb.DBConnection, collection_name: str, generation: str, expected_live: str | None
) -> dict[str, Any]:
    """The live pointer, moved to the generation.

    Raises StaleLiveError when `expected_live` is not what was live, StoreError when there is no such generation.
    """
    if generation not in generations(client, collection_name):
        raise StoreError(f"collection {collection_name!r} has no generation {generation!r} to promote")
    before = live_generation(client, collection_name)
    row = {
        "collection": collection_name,
        "generation": generation,
        "previous": before and before["generation"],
        "revision": before["revision"] + 1 if before else 1,
        "promoted_at": datetime.now(UTC).isoformat(timespec="seconds"),
    }
    moved = 0
    if (before and before["generation"]) == expected_live:
        merge = (
            _open_or_create(client, "_live", _LIVE, key="collection")
            .merge_insert("collection")
            .when_matched_update_all(where="target.revision = source.revision - 1")
            .when_not_matched_insert_all()
            .execute(pa.Table.from_pylist([row], _LIVE))
        )
        moved = merge.num_inserted_rows + merge.num_updated_rows
    if not moved:
        now = live_generation(client, collection_name)
        raise StaleLiveError(
            f"{generation!r} was not promoted: {(now and now['generation'])!r} is live in {collection_name!r}, "
            f"this run expected {expected_live!r}. Another run was faster: ingest again"
        )
    return row


def dropped(client: lancedb.DBConnection, collection_name: str, generation: str) -> str:
    """The generation, after it was removed. Raises StoreError for the live one."""
    live = live_generation(client, collection_name)
    if live and live["generation"] == generation:
        raise StoreError(f"{generation!r} is live in {collection_name!r}: promote another one before")
    client.drop_table(generation, ignore_missing=True)
    table = _open_or_create(client, "_generations", _GENERATIONS, key="generation")
    table.delete(f"generation = {_quoted(generation)}")
    return generation


def _matches(found: pa.Table, first_query: int, metric: str) -> pa.Table:
    if "query_index" not in found.column_names:  # LanceDB leaves it out for a single query
        found = found.append_column("query_index", pa.array(np.zeros(found.num_rows, np.int32)))
    found = found.sort_by([("query_index", "ascending"), ("_distance", "ascending")])
    query = found["query_index"].to_numpy()
    starts = np.searchsorted(query, query, side="left")
    distance = found["_distance"]
    score = pc.negate(distance) if metric == "l2" else pc.subtract(pa.scalar(1, pa.float32()), distance)
    columns = {name: found[name] for name in MATCH_SCHEMA.names[2:-1]}
    rank = np.arange(len(query)) - starts + 1
    return pa.table({"query": query + first_query, "rank": rank, **columns, "score": score}).cast(MATCH_SCHEMA)


def _open_or_create(client: lancedb.DBConnection, name: str, schema: pa.Schema, key: str) -> lancedb.table.Table:
    try:
        if name in _table_names(client):
            return client.open_table(name)
        table = client.create_table(name, schema=schema, exist_ok=True)
        # Without a key, two writers of the same new row would both insert it.
        table.set_unenforced_primary_key(key)
        return table
    except (OSError, RuntimeError, ValueError) as error:
        raise StoreError(f"store.lancedb.uri {client.uri!r} cannot be written: {error}") from error


def _table_names(client: lancedb.DBConnection) -> set[str]:
    names: set[str] = set()
    page = client.list_tables(limit=1000)
    while True:
        names.update(page.tables)
        if not page.page_token:
            return names
        page = client.list_tables(page_token=page.page_token, limit=1000)


def _rows(client: lancedb.DBConnection, table: str, **equal: str) -> list[dict[str, Any]]:
    if table not in _table_names(client):
        return []
    where = " AND ".join(f"{name} = {_quoted(value)}" for name, value in equal.items())
    return client.open_table(table).search().where(where).limit(10_000).to_arrow().to_pylist()


def _quoted(value: str) -> str:
    return "'" + str(value).replace("'", "''") + "'"
