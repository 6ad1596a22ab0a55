"""Searching: questions to the live generation, and how well it answers the corpus's own."""

import logging
from typing import Any, TypedDict

from squadron.dataflow.cached_vectors import cached_vectors
from squadron.dataflow.driver import shared_graph
from squadron.dataflow.vector_space import generation_name, vector_space
from squadron.errors import StoreError
from squadron.generations.catalog import Generations
from squadron.generations.record import RecordedSettings
from squadron.settings.home import VARIABLE as HOME_VARIABLE
from squadron.settings.locations import index_location
from squadron.settings.schema import Settings
from squadron.stores.record_checks import MATCH_SCHEMA

log = logging.getLogger(__name__)

DEFINES_VECTORS = {
    *("model", "revision", "precision", "dimensions", "dimension", "max_tokens", "tokenizer"),
    *("passage_prompt", "query_prompt", "azure_deployment"),
}
"""Settings of a service that its vectors depend on; the others say where it is, and how it is spoken to."""


class MatchedPassage(TypedDict):
    """A passage that answers a question, as JSON."""

    rank: int
    passage_id: str
    document_id: str
    title: str
    text: str
    score: float
    metadata: dict[str, str | None]


def search(
    settings: Settings, question: str, top_k: int = 10, filter: dict[str, str] | None = None
) -> list[MatchedPassage]:
    """The passages of the live generation nearest to the question: rank, passage_id, document_id, title, text, score,
    and metadata, the values of the generation's metadata columns.

    The question is embedded as that generation's passages were, whatever the settings say now.
    """
    if not question.strip():
        raise StoreError("the question is empty: say what to search for")
    shared_graph(settings).begin_model()  # it loads while the catalog is read: nearly always it is the live one's
    catalog, live = live_catalog(settings)
    graph = catalog.graph
    vectors, _ = cached_vectors(graph, None, "query_vectors", [question])
    table = catalog.table(live)
    matches = graph.value("matches", generation_table=table, query_vectors=vectors, top_k=top_k, filter=filter or {})
    metadata_columns = [name for name in matches.column_names if name not in MATCH_SCHEMA.names]
    return [
        MatchedPassage(
            rank=row["rank"],
            passage_id=row["id"],
            document_id=row["document_id"],
            title=row["title"],
            text=row["text"],
            score=row["score"],
            metadata={name: row[name] for name in metadata_columns},
        )
        for row in matches.to_pylist()
    ]


def live_catalog(settings: Settings) -> tuple[Generations, str]:
    """The collection's generations, through the graph that embeds as the live one was embedded, and the live one.

    Raises as `live_settings`.
    """
    catalog, live, own = _live(settings)
    return (catalog if own is settings else catalog.through(shared_graph(own))), live


def live_settings(settings: Settings) -> tuple[Settings, str]:
    """The settings by which the live generation was made, and that generation's name.

    What defines its vectors is taken from its record; addresses, limits and devices are those of today.
    Raises StoreError when there is no live generation, or its settings are not known to this version.
    """
    _, live, own = _live(settings)
    return own, live


def _live(settings: Settings) -> tuple[Generations, str, Settings]:
    catalog = Generations.of(settings)
    live = catalog.live
    if live is None or live not in catalog:
        raise StoreError(
            f"collection {settings.collection!r} has no live generation in {index_location(settings)}: ingest first. "
            f"If that was done elsewhere, set {HOME_VARIABLE} or store.{settings.store.name} to where it was"
        )
    recorded = catalog[live].settings
    if recorded is None or live == generation_name(settings.collection, vector_space(settings)):
        return catalog, live, settings
    try:
        return catalog, live, _as_recorded(settings, recorded)
    except ValueError as error:
        raise StoreError(
            f"{live} was made with settings that this version does not know ({error}): ingest again"
        ) from error


def _as_recorded(settings: Settings, recorded: RecordedSettings) -> Settings:
    """Today's settings with those of a generation where these define its vectors."""
    plain = settings.model_dump()
    service = str(recorded.embedding["service"])
    section: dict[str, Any] = recorded.embedding[service]  # type: ignore[assignment]
    plain["embedding"] |= {name: value for name, value in recorded.embedding.items() if name != service}
    plain["embedding"][service] |= {name: value for name, value in section.items() if name in DEFINES_VECTORS}
    plain["passages"] |= recorded.passages
    plain["store"] |= recorded.store
    return Settings.model_validate(plain)
