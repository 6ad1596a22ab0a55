"""Vector space: everything that defines the vectors of a generation. No nodes."""

from squadron.cache.keys import space_digest
from squadron.dataflow.driver import Graph, shared_graph
from squadron.settings.schema import Settings

NAME_DIGITS = 8
"""Digits of the fingerprint that a generation's name ends with."""


def embedding_space(settings: Settings, graph: Graph) -> dict[str, str]:
    """What defines the vectors of a text, as text: the service's own words, and the variant if one is set."""
    variant = {"variant": settings.embedding.variant} if settings.embedding.variant else {}
    return {**graph.kept("vector_space"), **variant}


def vector_space(settings: Settings) -> dict[str, str]:
    """Everything that defines the vectors of a generation, as text; equal spaces are one generation."""
    graph = shared_graph(settings)
    return {
        **embedding_space(settings, graph),
        "template": settings.passages.template,
        "passage_tokens": str(graph.kept("passage_tokens")),
        "overlap_tokens": str(settings.passages.overlap_tokens),
        "metric": settings.store.metric,
    }


def query_prompt(settings: Settings) -> str:
    """What the configured service puts before every question; empty where it is what the model's files say."""
    return getattr(getattr(settings.embedding, settings.embedding.service), "query_prompt", None) or ""


def fingerprint(vector_space: dict[str, str]) -> str:
    """A digest of a vector space: 32 hex digits."""
    return space_digest(vector_space)


def generation_name(collection: str, vector_space: dict[str, str]) -> str:
    """The name of a collection's generation of this vector space."""
    return f"{collection}_{fingerprint(vector_space)[:NAME_DIGITS]}"
