"""LanceDB's searches: by the vector index, or exact; what they find, as matches."""

from collections.abc import Iterator
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from squadron.errors import StoreError
from squadron.stores.exact_search import exact_neighbours
from squadron.stores.lancedb import tables
from squadron.stores.lancedb.runtime import lancedb
from squadron.stores.record_checks import match_schema
from squadron.stores.record_schema import RECORD_COLUMNS, VECTOR_COLUMN

QUERIES_PER_SEARCH = 100
# From so many queries on, one pass over all vectors costs less than LanceDB's exact search of each (20,000 rows,
# 1,000 queries: 0.4 s instead of 2.4).
MANY_QUERIES = 64
ROWS_READ = 4096
# Where an index is searched: probes and refinement that keep recall@10 above .99 (benchmarks/scale).
PROBES, REFINE_FACTOR = 20, 10


def nearest_rows(
    table: lancedb.table.Table, query_vectors: np.ndarray, metric: str, top_k: int, where: str
) -> pa.Table:
    """The nearest rows of each query, as `record_checks.match_schema` says. `where`: SQL, or empty for all rows."""
    if len(query_vectors) >= MANY_QUERIES and not where and not vector_indices(table):
        with tables.reported(f"{table.uri} could not be searched"):
            return _exact_matches(table, query_vectors, metric, top_k)
    columns = _match_schema(table)
    parts = [columns.empty_table()]
    for start in range(0, len(query_vectors), QUERIES_PER_SEARCH):
        vectors = query_vectors[start : start + QUERIES_PER_SEARCH]
        search = nearest_search(table, vectors, metric, top_k)
        search = search.where(where, prefilter=True) if where else search
        with tables.reported(f"{table.uri} could not be searched"):
            nearest = search.select([*_stored_columns(columns), "_distance"]).to_arrow()
        parts.append(_matches(nearest, columns, start, metric))
    return pa.concat_tables(parts)


def vector_indices(table: lancedb.table.Table) -> list[str]:
    """The names of the vector indices."""
    return [index.name for index in table.list_indices() if VECTOR_COLUMN in index.columns]


def nearest_search(table: lancedb.table.Table, vectors: np.ndarray, metric: str, top_k: int) -> Any:
    """LanceDB's own search for the nearest rows, by the index where there is one."""
    search = table.search(vectors, vector_column_name=VECTOR_COLUMN)
    search = search.distance_type(metric).refine_factor(REFINE_FACTOR).limit(top_k)
    # No maximum: rows that a filter leaves may lie in partitions far from the query.
    return search.minimum_nprobes(PROBES).maximum_nprobes(0)


def _exact_matches(table: lancedb.table.Table, vectors: np.ndarray, metric: str, top_k: int) -> pa.Table:
    query, row, score = exact_neighbours(_vectors(table), vectors, metric, top_k)
    rows, columns = np.unique(row), _match_schema(table)
    nearest = table.take_row_ids(rows.tolist()).select(_stored_columns(columns)).with_row_id().to_arrow()
    nearest = nearest.sort_by("_rowid")
    if not np.array_equal(nearest["_rowid"].to_numpy(), rows):
        raise StoreError(f"{table.name} was changed while it was searched: try again")
    return _ranked(query, nearest.take(pa.array(np.searchsorted(rows, row))), columns, score)


def _vectors(table: lancedb.table.Table) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """All rows, block by block: their row ids and vectors."""
    for batch in table.search().select([VECTOR_COLUMN]).with_row_id(True).to_batches(ROWS_READ):
        vectors = batch[VECTOR_COLUMN].flatten().to_numpy().reshape(batch.num_rows, -1)
        yield batch["_rowid"].to_numpy().astype(np.int64), vectors


def _matches(nearest: pa.Table, columns: pa.Schema, first_query: int, metric: str) -> pa.Table:
    if "query_index" not in nearest.column_names:  # LanceDB leaves it out for a single query
        nearest = nearest.append_column("query_index", pa.array(np.zeros(nearest.num_rows, np.int32)))
    nearest = nearest.sort_by([("query_index", "ascending"), ("_distance", "ascending")])
    distance = nearest["_distance"]
    score = pc.negate(distance) if metric == "l2" else pc.subtract(pa.scalar(1, pa.float32()), distance)
    return _ranked(nearest["query_index"].to_numpy() + first_query, nearest, columns, score)


def _match_schema(table: lancedb.table.Table) -> pa.Schema:
    return match_schema(name for name in table.schema.names if name not in RECORD_COLUMNS)


def _stored_columns(columns: pa.Schema) -> list[str]:
    """The columns of matches that are columns of the table."""
    return [name for name in columns.names if name not in ("query", "rank", "score")]


def _ranked(query: np.ndarray, nearest: pa.Table, columns: pa.Schema, score: np.ndarray | pa.ChunkedArray) -> pa.Table:
    """What was found, by query and best first, as matches."""
    rank = np.arange(len(query)) - np.searchsorted(query, query) + 1
    values = {"query": query, "rank": rank, "score": score} | {name: nearest[name] for name in _stored_columns(columns)}
    return pa.table(values).select(columns.names).cast(columns)
