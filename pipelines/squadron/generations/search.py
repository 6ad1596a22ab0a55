"""Searching: questions to the live generation, and how well it answers the corpus's own."""

import logging
from dataclasses import dataclass
from typing import Any, TypedDict

import numpy as np
import pyarrow as pa

from squadron.cache.vectors import EmbeddingCache
from squadron.corpus.reading import Corpus
from squadron.dataflow.cached_vectors import cached_vectors
from squadron.dataflow.driver import Graph, shared_graph
from squadron.dataflow.evaluation import DEPTH, MOST_PASSAGES_SEARCHED, PASSAGES_SEARCHED
from squadron.dataflow.vector_space import generation_name, vector_space
from squadron.embeddings.remote.failures import RefusedTextsError
from squadron.errors import StoreError
from squadron.generations.catalog import Generations
from squadron.generations.record import RecordedSettings
from squadron.process.progress import Progress
from squadron.settings.home import VARIABLE as HOME_VARIABLE
from squadron.settings.locations import index_location
from squadron.settings.schema import Settings
from squadron.stores.record_checks import MATCH_SCHEMA

log = logging.getLogger(__name__)

QUESTIONS_PER_CALL = 1024
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


class Measurement(TypedDict):
    """How well the live generation answers."""

    collection: str
    generation: str
    questions: int
    asked: str
    metrics: dict[str, float]


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


def measure(settings: Settings) -> Measurement:
    """Evaluate the live generation now, on the questions of the configured corpus; changes nothing."""
    catalog, live = live_catalog(settings)
    graph = catalog.graph
    corpus = Corpus(settings, graph, graph.value("stored_documents", stored_ids=[]))
    for _ in corpus.changes():
        pass
    asked, questions = corpus.asked()
    asking = Asking.of(graph, questions)
    return {
        "collection": settings.collection,
        "generation": live,
        "questions": asking.questions.num_rows,
        "asked": asked,
        "metrics": asking.measured(catalog.table(live)),
    }


@dataclass(frozen=True)
class Asking:
    """Questions with their vectors, to be asked of generations of one vector space."""

    graph: Graph
    questions: pa.Table
    """Without those that the service refuses."""
    vectors: np.ndarray
    """`float32 [questions, dimension]`."""

    @classmethod
    def of(cls, graph: Graph, questions: pa.Table, cache: EmbeddingCache | None = None) -> "Asking":
        """Embed the questions, those aside whose vectors the cache has."""
        vectors, answerable = _question_vectors(graph, questions["question"].to_pylist(), cache)
        return cls(graph, questions.filter(pa.array(answerable)), vectors[answerable])

    def measured(self, generation_table: Any) -> dict[str, float]:
        """The metrics of a generation; empty without questions."""
        if not self.questions.num_rows:
            return {}
        search = {"generation_table": generation_table, "filter": {}}
        top_k = PASSAGES_SEARCHED
        values = self.graph.values(
            ["matches", "metrics"], questions=self.questions, query_vectors=self.vectors, top_k=top_k, **search
        )
        matches = values["matches"]
        while len(shallow := _shallow_queries(matches, top_k)) and top_k < MOST_PASSAGES_SEARCHED:
            top_k *= 2
            deeper = self.graph.value("matches", query_vectors=self.vectors[shallow], top_k=top_k, **search)
            matches = _deepened(matches, deeper, shallow)
        if len(shallow):
            log.warning("for %d questions the first %d passages are of fewer than ten documents", len(shallow), top_k)
        if top_k == PASSAGES_SEARCHED:
            return dict(values["metrics"])
        return dict(self.graph.value("metrics", questions=self.questions, matches=matches))


def _shallow_queries(matches: pa.Table, top_k: int) -> np.ndarray:
    """`int [n]`: the queries whose `top_k` matches are passages of fewer than ten documents; more may follow."""
    pairs = matches.group_by(["query"]).aggregate([("document_id", "count_distinct"), ("document_id", "count")])
    few = pairs["document_id_count_distinct"].to_numpy() < DEPTH
    cut_off = pairs["document_id_count"].to_numpy() >= top_k
    shallow: np.ndarray = np.sort(pairs["query"].to_numpy()[few & cut_off])
    return shallow


def _deepened(matches: pa.Table, deeper: pa.Table, queries: np.ndarray) -> pa.Table:
    """The matches, those of some queries replaced by what a deeper search found for them."""
    others = matches.filter(pa.array(~np.isin(matches["query"].to_numpy(), queries)))
    numbered = deeper.set_column(0, "query", pa.array(queries[deeper["query"].to_numpy()], deeper.schema.field(0).type))
    return pa.concat_tables([others, numbered])


def live_catalog(settings: Settings) -> tuple[Generations, str]:
    """The collection's generations, through the graph that embeds as the live one was embedded, and the live one.

    What defines its vectors is taken from its record; addresses, limits and devices are those of today.
    """
    catalog = Generations.of(settings)
    live = catalog.live
    if live is None or live not in catalog:
        raise StoreError(
            f"collection {settings.collection!r} has no live generation in {index_location(settings)}: ingest first. "
            f"If that was done elsewhere, set {HOME_VARIABLE} or store.{settings.store.name} to where it was"
        )
    recorded = catalog[live].settings
    if recorded is None or live == generation_name(settings.collection, vector_space(settings)):
        return catalog, live
    try:
        return catalog.through(shared_graph(_as_recorded(settings, recorded))), live
    except ValueError as error:
        raise StoreError(
            f"{live} was made with settings that this version does not know ({error}): ingest again"
        ) from error


def live_settings(settings: Settings) -> tuple[Settings, str]:
    """The settings by which the live generation was made, at today's addresses, and that generation's name.

    Raises StoreError when there is no live generation, or its settings are not known to this version.
    """
    catalog, live = live_catalog(settings)
    recorded = catalog[live].settings
    return (settings if recorded is None else _as_recorded(settings, recorded)), live


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


def _question_vectors(
    graph: Graph, questions: list[str], cache: EmbeddingCache | None
) -> tuple[np.ndarray, np.ndarray]:
    """`float32 [questions, dimension]`, and which of the questions the service did not refuse."""
    if not questions:
        log.info("evaluation.max_questions is 0: nothing is measured")
        return np.empty((0, 0), np.float32), np.empty(0, bool)
    progress = Progress("evaluate", len(questions), "questions")
    vectors, answerable = [], np.ones(len(questions), bool)
    for start in range(0, len(questions), QUESTIONS_PER_CALL):
        texts = questions[start : start + QUESTIONS_PER_CALL]
        try:
            vectors.append(cached_vectors(graph, cache, "query_vectors", texts)[0])
        except RefusedTextsError as refusal:
            log.warning("%d questions are left out of the evaluation: %s", len(refusal.reasons), refusal)
            vectors.append(refusal.embeddings)
            answerable[[start + row for row in refusal.reasons]] = False
        progress.add(len(texts))
    return np.concatenate(vectors), answerable
