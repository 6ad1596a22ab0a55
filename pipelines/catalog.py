"""Catalog: the generations of a collection, what describes them, and which one is live."""

import logging
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from hashlib import blake2b
from typing import Any

from pipelines.errors import StaleLiveError, StoreError
from pipelines.graph import Graph
from pipelines.memory import bound_heap
from pipelines.settings import Settings

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Promotion:
    """Which generation is live now."""

    live: str | None
    previous: str | None
    promoted: bool
    held: str | None
    """Why the candidate was not promoted, when it was rolled back before."""
    collected: list[str]
    """Old generations that were dropped."""
    seconds: float


@lru_cache(maxsize=2)
def shared_graph(settings: Settings) -> Graph:
    """Steps that run in one process share a client, a tokenizer and a model."""
    bound_heap()
    return Graph(settings)


def embedding_space(settings: Settings, graph: Graph) -> dict[str, str]:
    """What defines the vectors of a text, as text: the service's own words, and the variant if one is set."""
    variant = {"variant": settings.embedding.variant} if settings.embedding.variant else {}
    return {**graph.value("vector_space"), **variant}


def vector_space(settings: Settings) -> dict[str, str]:
    """Everything that defines the vectors of a generation, as text; equal spaces are one generation."""
    graph = shared_graph(settings)
    limits = graph.value("passage_tokens", tokenizer=graph.kept("tokenizer"))
    return {
        **embedding_space(settings, graph),
        "template": settings.passages.template,
        "passage_tokens": str(limits),
        "overlap_tokens": str(settings.passages.overlap_tokens),
        "metric": settings.store.metric,
    }


def fingerprint(vector_space: dict[str, str]) -> str:
    """A digest of a vector space; its first 8 digits name the generation."""
    return blake2b(repr(sorted(vector_space.items())).encode(), digest_size=16).hexdigest()


def read_catalog(graph: Graph) -> tuple[dict[str, dict[str, Any]], str | None]:
    """The generations with their descriptions, and which of them is live."""
    found = graph.values(["generations", "live_generation"], client=graph.kept("client"))
    pointer = found["live_generation"]
    return found["generations"], pointer and pointer["generation"]


def opened(graph: Graph, generation: str, about: dict[str, Any]) -> Any:
    """A generation that may be of another vector space than today's; `about` describes it."""
    space = (
        {"dimension": about["dimension"], "metric": about["settings"]["store"]["metric"]} if "settings" in about else {}
    )
    return graph.value("collection", generation=generation, metadata_columns=(), **space)


def generations(settings: Settings) -> list[dict[str, Any]]:
    """The collection's generations, newest first, with their descriptions and whether they are live."""
    existing, live = read_catalog(shared_graph(settings))
    rows = [{"generation": name, "live": name == live, **about} for name, about in existing.items()]
    return sorted(rows, key=lambda row: row.get("created_at") or "", reverse=True)


def create_generation(
    graph: Graph, settings: Settings, generation: str, space: dict[str, str], probes: str | None
) -> None:
    graph.value("collection", generation=generation)
    service = settings.embedding.service
    describe(
        graph,
        generation,
        created_at=now(),
        vector_space=space,
        dimension=graph.value("dimension"),
        probes=probes,
        settings={
            "embedding": {
                "service": service,
                "variant": settings.embedding.variant,
                service: getattr(settings.embedding, service).model_dump(),
            },
            "passages": settings.passages.model_dump(),
            "store": {"metric": settings.store.metric},
        },
    )


def describe(graph: Graph, generation: str | None, **facts: Any) -> None:
    description = read_catalog(graph)[0].get(generation or "", {}) | facts
    kept = {name: fact for name, fact in description.items() if fact is not None}
    graph.value("described", generation=generation, description=kept)


def promote_generation(settings: Settings, generation: str) -> Promotion:
    """Make a generation live because a person says so; no gate is asked."""
    graph = shared_graph(settings)
    existing, live = read_catalog(graph)
    if generation not in existing:
        raise StoreError(
            f"collection {settings.collection!r} has no generation {generation!r}: "
            + (f"choose from {', '.join(sorted(existing))}" if existing else "there is none yet: ingest first")
        )
    if generation == live:
        return Promotion(live, None, False, "it is live already", [], 0.0)
    pointer = graph.value("promoted", generation=generation, expected_live=live)
    describe(graph, generation, rolled_back_at=None)
    return Promotion(generation, pointer["previous"], True, None, [], 0.0)


def rollback(settings: Settings) -> Promotion:
    """Make the predecessor live again. The generation left is not promoted by later runs, only by hand."""
    graph = shared_graph(settings)
    existing, live = read_catalog(graph)
    pointer = graph.value("live_generation")
    if not pointer or not pointer["previous"]:
        raise StoreError(f"collection {settings.collection!r} has no earlier generation to return to")
    if pointer["previous"] not in existing:
        raise StoreError(f"{pointer['previous']!r}, which was live before {live!r}, was dropped since")
    describe(graph, live, rolled_back_at=now())  # first: killed after the move, a later run would move it back
    try:
        moved = graph.value("promoted", generation=pointer["previous"], expected_live=live)
    except StaleLiveError:
        describe(graph, live, rolled_back_at=None)
        raise
    describe(graph, moved["generation"], rolled_back_at=None)
    return Promotion(moved["generation"], live, True, None, [], 0.0)


def collect_generations(graph: Graph, settings: Settings) -> list[str]:
    """Drop the oldest generations beyond retention, never the live one nor its predecessor."""
    existing, _ = read_catalog(graph)
    pointer = graph.value("live_generation")
    wanted = {pointer["generation"], pointer["previous"]}
    newest = sorted(existing, key=lambda name: existing[name].get("created_at") or "", reverse=True)
    for name in newest:
        if len(wanted & existing.keys()) >= settings.retention.generations:
            break
        wanted.add(name)
    yesterday = (datetime.now(UTC) - timedelta(days=1)).isoformat(timespec="milliseconds")
    for name, about in existing.items():
        if "metrics" not in about and about.get("created_at", now()) > yesterday:
            wanted.add(name)  # perhaps another run is building it
    collected = [name for name in newest if name not in wanted]
    for name in collected:
        graph.value("dropped", generation=name)
        log.info("%s was dropped: retention.generations is %d", name, settings.retention.generations)
    return collected


def now() -> str:
    return datetime.now(UTC).isoformat(timespec="milliseconds")
