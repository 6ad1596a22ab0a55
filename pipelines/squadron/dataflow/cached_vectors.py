"""Cached vectors: the cache is asked first, the graph embeds what it lacks, and that is cached. No nodes."""

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
    """The texts' vectors, and how many came from the cache; the node computes those it lacks, and they are cached.

    The model is loaded only if there is something to embed. What was paid for is cached before anything is written
    to the store: when that fails, the next try embeds nothing.
    Raises RefusedTextsError, with all other vectors cached and in it, when the service refused some of the texts.
    """
    if cache is None:
        return _computed(graph, node, texts), 0
    vectors, is_cached = cache.vectors(texts, graph.kept("dimension"))
    missing = np.flatnonzero(~is_cached)
    if not len(missing):
        return vectors, len(texts)
    cached = len(texts) - len(missing)
    try:
        vectors[missing] = _added(graph, cache, node, [texts[row] for row in missing])
    except RefusedTextsError as refusal:
        vectors[missing] = refusal.embeddings
        reasons = {int(missing[position]): reason for position, reason in refusal.reasons.items()}
        raise RefusedTextsError(refusal.service, reasons, vectors, cached) from refusal
    return vectors, cached


def _added(graph: Graph, cache: EmbeddingCache, node: str, texts: list[str]) -> np.ndarray:
    """The vectors of texts that the cache lacks, after they were added to it; raises as `cached_vectors` does."""
    files: list[str] = []

    def answered(positions: list[int], answer: np.ndarray) -> None:
        """Each request's answer is cached at once: the next may fail, or the process die."""
        files.append(cache.add([texts[position] for position in positions], answer))

    refusal: RefusedTextsError | None = None
    try:
        vectors = _computed(graph, node, texts, answered)
    except RefusedTextsError as error:
        vectors, refusal = error.embeddings, error
    sound = [row for row in range(len(texts)) if refusal is None or row not in refusal.reasons]
    if sound and len(files) != 1:  # in one file: the index of the cache reads every file there is
        cache.add([texts[row] for row in sound], vectors[sound])
        cache.remove(files)
    if refusal is not None:
        raise refusal
    return vectors


def _computed(graph: Graph, node: str, texts: list[str], answered: Answered | None = None) -> np.ndarray:
    graph.kept("model")
    input_name = {"embeddings": "embedding_texts", "query_vectors": "query_texts"}[node]
    return graph.value(node, **{input_name: texts, "answered": answered})
