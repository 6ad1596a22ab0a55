"""pgvector's searches: by an HNSW index, or exact."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import psycopg
import pyarrow as pa
from psycopg.sql import SQL, Composed, Identifier, Literal

from squadron.stores.pgvector import schema
from squadron.stores.pgvector.rows import TYPES
from squadron.stores.pgvector.schema import Table
from squadron.stores.record_checks import checked_filter, match_schema

# What an index takes, and how many candidates a search of it can weigh: pgvector's limits.
MAX_INDEXED_DIMENSION, MAX_CANDIDATES = 2_000, 1_000
# Distance operator, class of the index, and the score: of `<#>`, which is minus the inner product, too.
_METRICS = {
    "cosine": (SQL("<=>"), SQL("vector_cosine_ops"), SQL("1 - _distance")),
    "dot": (SQL("<#>"), SQL("vector_ip_ops"), SQL("-_distance")),
    "l2": (SQL("<->"), SQL("vector_l2_ops"), SQL("-(_distance ^ 2)")),
}
_SEARCH = """
SELECT {columns}
FROM (SELECT *, vector {operator} %s AS _distance FROM {table} WHERE {where}) AS measured
ORDER BY {order} LIMIT {limit}"""


def indexed(table: Table, metric: str, build: bool) -> bool:
    """Whether there is an index, after it was built if it is to be and can be; the table is vacuumed."""
    name = f"{table.name}_hnsw"

    def work(connection: psycopg.Connection) -> bool:
        if build and table.dimension <= MAX_INDEXED_DIMENSION:
            create = SQL("CREATE INDEX IF NOT EXISTS {} ON {} USING hnsw (vector {})")
            connection.execute(create.format(Identifier(name), table.quoted, _METRICS[metric][1]))
        connection.execute(SQL("VACUUM (ANALYZE) {}").format(table.quoted))
        return schema.rows(connection, "SELECT to_regclass(quote_ident(%s))", name) != [(None,)]

    return table.database.answered(f"the index of {table.name!r} could not be built", work)


def nearest_rows(table: Table, query_vectors: np.ndarray, top_k: int, metric: str, filter: dict[str, str]) -> pa.Table:
    """The nearest rows of each query, as `record_checks.match_schema` says. `query_vectors`: float32 [q, d]."""
    columns = [name for name in table.columns if name not in TYPES]
    values = {name: schema.storable(value) for name, value in checked_filter(filter, columns).items()}
    candidates = max(100, 2 * top_k)
    exact = bool(values) or candidates > MAX_CANDIDATES
    matches = match_schema(table.metadata_columns)
    query = _query(table, matches.names[2:], metric, list(values), exact, top_k)

    def work(connection: psycopg.Connection) -> list[tuple[Any, ...]]:
        answer: list[tuple[Any, ...]] = []
        with connection.transaction():
            if not exact:
                connection.execute(f"SET LOCAL hnsw.ef_search = {candidates}")
            for number, vector in enumerate(query_vectors):
                nearest = schema.rows(connection, query, vector, *values.values())
                answer += [(number, rank, *row) for rank, row in enumerate(nearest, start=1)]
        return answer

    return schema.arrow(table.database.answered(f"{table.name!r} could not be searched", work), matches)


def _query(
    table: Table, names: Sequence[str], metric: str, filtered: Sequence[str], exact: bool, top_k: int
) -> Composed:
    """A search for the named columns of the nearest rows; it takes a vector, and a value of each filtered column."""
    operator, _, score = _METRICS[metric]
    return SQL(_SEARCH).format(
        columns=SQL(", ").join(score if name == "score" else Identifier(name) for name in names),
        table=table.quoted,
        operator=operator,
        where=SQL(" AND ").join([SQL("true"), *(SQL("{} = %s").format(Identifier(name)) for name in filtered)]),
        order=SQL("_distance + 0" if exact else "_distance"),  # no index is on the sum
        limit=Literal(top_k),
    )
