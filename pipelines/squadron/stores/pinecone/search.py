"""Pinecone's searches: one query a request, several under way at once."""

from functools import partial
from typing import Any

import numpy as np
import pyarrow as pa
from pinecone import ScoredVector

from squadron.errors import StoreError
from squadron.stores.pinecone.rows import TEXT_COLUMNS, Namespace
from squadron.stores.record_checks import checked_filter, match_schema

MOST_MATCHES = 10_000


def nearest_rows(
    namespace: Namespace, query_vectors: np.ndarray, top_k: int, metric: str, filter: dict[str, str]
) -> pa.Table:
    """The nearest rows of each query, as `record_checks.match_schema` says. `query_vectors`: float32 [q, d]."""
    if top_k > MOST_MATCHES:
        raise StoreError(f"Pinecone returns at most {MOST_MATCHES:,} matches of a query, not {top_k:,}: ask for fewer")
    equal = checked_filter(filter, [*TEXT_COLUMNS, *namespace.columns])
    query: dict[str, Any] = {"top_k": top_k, "include_metadata": True}
    if equal:
        query["filter"] = {name: {"$eq": value} for name, value in equal.items()}
    ask = partial(namespace.connection.query, namespace.index, namespace.name)
    answers = namespace.connection.each(ask, [{**query, "vector": vector} for vector in query_vectors.tolist()])
    rows = [
        _row(namespace, number, rank, match, metric)
        for number, answer in enumerate(answers)
        for rank, match in enumerate(answer.matches, start=1)
    ]
    return pa.Table.from_pylist(rows, match_schema(namespace.columns))


def _row(namespace: Namespace, query: int, rank: int, match: ScoredVector, metric: str) -> dict[str, Any]:
    """A match as a row of `record_checks.match_schema`."""
    metadata = match.metadata or {}
    # By l2 Pinecone returns the squared distance, the smallest first.
    score = -match.score if metric == "l2" else match.score
    columns = {name: metadata.get(name) for name in (*TEXT_COLUMNS, *namespace.columns)}
    return {"query": query, "rank": rank, "id": match.id, "score": score} | columns
