"""LanceDB's vector index: built once there are enough rows, and kept while it finds what exact search finds."""

import logging
from collections.abc import Iterator
from datetime import datetime, timedelta

import pyarrow as pa

from squadron.stores.lancedb.runtime import lancedb
from squadron.stores.lancedb.search import QUERIES_PER_SEARCH, nearest_search, vector_indices
from squadron.stores.record_schema import VECTOR_COLUMN, vectors_of

ROWS_PER_PARTITION = 4_096
VERSIONS_KEPT = timedelta(days=7)
DEPTH = 10
"""The rank down to which an index is compared with exact search."""

log = logging.getLogger(__name__)


def build(table: lancedb.table.Table, rows: int, metric: str, min_rows: int) -> None:
    """Build the index, if there is none and the table has enough rows."""
    if rows >= min_rows and not vector_indices(table):
        config = lancedb.index.IvfSq(distance_type=metric, num_partitions=max(1, rows // ROWS_PER_PARTITION))
        table.create_index(VECTOR_COLUMN, config=config)


def compact(table: lancedb.table.Table, kept_version: int | None) -> None:
    """Compact the table, and fold new rows into its index; old versions are removed.

    A version is old that is older than a week, and older than the kept one.
    """
    kept_at = [version["timestamp"] for version in table.list_versions() if version["version"] == kept_version]
    ages = [datetime.now() - at + timedelta(days=1) for at in kept_at]  # both of this machine's time zone
    table.optimize(cleanup_older_than=max([VERSIONS_KEPT, *ages]))


def kept_recall(table: lancedb.table.Table, metric: str, min_recall: float) -> float | None:
    """The share of what exact search finds that the index finds, once it serves; None: there is no index.

    An index that finds less than `min_recall` is dropped.
    """
    indices = vector_indices(table)
    if not indices:
        return None
    table.wait_for_index(indices)
    recall = _recall(table, metric)
    if recall >= min_recall:
        return recall
    log.warning(
        "the index of %s finds %.3f of what exact search finds, store.lancedb.index_min_recall wants %g: "
        "it was dropped, search is exact",
        *(table.name, recall, min_recall),
    )
    for name in indices:
        table.drop_index(name)
    return None


def _recall(table: lancedb.table.Table, metric: str) -> float:
    """The share of the rows nearest to some stored vectors by exact search that a search by the index finds."""
    vectors = vectors_of(table.search().select([VECTOR_COLUMN]).limit(QUERIES_PER_SEARCH).to_arrow())
    indexed, flat = (nearest_search(table, vectors, metric, DEPTH).select(["id", "_distance"]) for _ in range(2))
    by_index, exact = (set(_pairs(search.to_arrow())) for search in (indexed, flat.bypass_vector_index()))
    return len(by_index & exact) / len(exact)


def _pairs(nearest: pa.Table) -> Iterator[tuple[int, str]]:
    """Each query's position with the ids that were found for it."""
    count = nearest.num_rows
    queries = nearest["query_index"].to_pylist() if "query_index" in nearest.column_names else [0] * count
    return zip(queries, nearest["id"].to_pylist(), strict=True)
