"""Cached vectors: the cache is asked first, the graph embeds what it lacks, and that is kept. No nodes."""

import numpy as np

from squadron.cache.vectors import EmbeddingCache
from squadron.dataflow.driver import Graph
from squadron.dataflow.vector_space import embedding_space, query_prompt
from squadron.embeddings.remote.failures import RefusedTextsError
from squadron.embeddings.remote.remote_model import Answered
from squadron.settings.schema import Settings


def opened_cache(settings: Settings, graph: Graph, kind: str = "passage") -> EmbeddingCache | None:
    """The cache of the configured vector space, for passages or for queries; None if there is to be none.

    The prompt of queries is no part of the vector space, for passages do not depend on it; vectors of queries do.
    """
    if not settings.cache.path:
        return None
    space = {**embedding_space(settings, graph), "kind": kind}
    if kind == "query" and (prompt := query_prompt(settings)):
        space["query_prompt"] = prompt
    return EmbeddingCache(settings.cache.path, space)


def cached_vectors(graph: Graph, cache: EmbeddingCache | None, node: str, texts: list[str]) -> tuple[np.ndarray, int]:
    """The texts' vectors, and how many came from the cache; those it lacks are computed by the node, and kept.

    The model is loaded only if there is something to embed. What was paid for is kept before anything is written
    to the store: when that fails, the next try embeds nothing.
    Raises RefusedTextsError, all other vectors kept and in it, when the service refused some of the texts.
    """
    if cache is None:
        return _computed(graph, node, texts), 0
    vectors, found = cache.vectors(texts, graph.kept("dimension"))
    missing = np.flatnonzero(~found)
    refusal = None
    if len(missing):
        pieces: list[str] = []

        def answered(positions: list[int], answer: np.ndarray) -> None:
            """What one request of several brought is kept at once: the next may fail, or the process die."""
            pieces.append(cache.add([texts[missing[position]] for position in positions], answer))

        try:
            vectors[missing] = _computed(graph, node, [texts[row] for row in missing], answered)
        except RefusedTextsError as error:
            vectors[missing], refusal = error.embeddings, error
        sound = [row for position, row in enumerate(missing) if refusal is None or position not in refusal.reasons]
        if sound and len(pieces) != 1:  # in one file: the index of the cache reads every file there is
            cache.add([texts[row] for row in sound], vectors[sound])
            cache.remove(pieces)
    if refusal is not None:
        reasons = {int(missing[position]): reason for position, reason in refusal.reasons.items()}
        raise RefusedTextsError(refusal.service, reasons, vectors, len(texts) - len(missing)) from refusal
    return vectors, len(texts) - len(missing)


def _computed(graph: Graph, node: str, texts: list[str], answered: Answered | None = None) -> np.ndarray:
    graph.kept("model")
    given = {"embeddings": "embedding_texts", "query_vectors": "query_texts"}[node]
    return graph.value(node, **{given: texts, "answered": answered})
