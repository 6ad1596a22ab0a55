"""Weaviate's searches: one query a request, several under way at once."""

from functools import partial
from typing import Any

import numpy as np
import pyarrow as pa
from weaviate.classes.query import Filter, MetadataQuery

from squadron.stores.record_checks import checked_filter, match_schema
from squadron.stores.weaviate.requests import answered, at_once
from squadron.stores.weaviate.schema import VECTOR, Generation, stored_name


def nearest_rows(
    generation: Generation, query_vectors: np.ndarray, top_k: int, metric: str, filter: dict[str, str]
) -> pa.Table:
    """The nearest rows of each query, as `record_checks.match_schema` says. `query_vectors`: float32 [q, d]."""
    equal = checked_filter(filter, ["document_id", "title", *generation.metadata_columns])
    filters = [Filter.by_property(stored_name(name)).equal(value) for name, value in equal.items()]
    names = ["document_id", "title", "text", *generation.metadata_columns]

    def nearest(query: tuple[int, np.ndarray]) -> list[dict[str, Any]]:
        call = partial(
            generation.rows.query.near_vector,
            query[1].tolist(),
            target_vector=VECTOR,
            limit=top_k,
            filters=Filter.all_of(filters) if filters else None,
            return_properties=[stored_name(name) for name in names],
            return_metadata=MetadataQuery(distance=True),
        )
        objects: list[Any] = answered(generation.connection, f"search {generation.name!r}", call).objects
        return [_row(query[0], rank, match, names, metric) for rank, match in enumerate(objects, start=1)]

    answers = at_once(generation.connection, nearest, enumerate(query_vectors))
    columns = match_schema(generation.metadata_columns)
    return pa.Table.from_pylist([row for rows in answers for row in rows], columns)


def _row(query: int, rank: int, match: Any, names: list[str], metric: str) -> dict[str, Any]:
    """A match as a row of `record_checks.match_schema`."""
    # Distances: 1 - cosine, minus the inner product, the squared Euclidean distance.
    score = (1 if metric == "cosine" else 0) - match.metadata.distance
    columns = {name: match.properties.get(stored_name(name)) for name in names}
    return {"query": query, "rank": rank, "id": match.uuid.hex, "score": score} | columns
