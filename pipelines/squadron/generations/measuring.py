"""Measuring: how well a generation answers questions whose answers are known."""

import logging
from dataclasses import dataclass
from typing import Any, TypedDict

import numpy as np
import pyarrow as pa

from squadron.cache.vectors import EmbeddingCache
from squadron.corpus.reading import Corpus
from squadron.dataflow.cached_vectors import cached_vectors
from squadron.dataflow.driver import Graph
from squadron.dataflow.evaluation import DEPTH, MOST_PASSAGES_SEARCHED, PASSAGES_SEARCHED
from squadron.embeddings.remote.failures import RefusedTextsError
from squadron.generations.search import live_catalog
from squadron.process.progress import Progress
from squadron.settings.schema import Settings

log = logging.getLogger(__name__)

QUESTIONS_PER_CALL = 1024


class Measurement(TypedDict):
    """How well the live generation answers."""

    collection: str
    generation: str
    questions: int
    asked: str
    metrics: dict[str, float]


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
