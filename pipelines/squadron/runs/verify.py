"""Verifying: the live generation against the corpus, row by row; and mending what is not as it should be.

An ingest believes the ids in the store, because ids are made of content. This looks behind them: are the columns of
each row those of its passage, and are the vectors those that the model gives? Somebody may have written to the store
beside Squadron, or a disk may have lost bits.
"""

import logging
import time
from collections.abc import Iterator
from typing import TypedDict

import numpy as np
import pyarrow as pa

from squadron.corpus.findings import Findings
from squadron.corpus.guards import check_corpus
from squadron.corpus.reading import Corpus
from squadron.dataflow.cached_vectors import opened_cache
from squadron.dataflow.changes import StoredDocuments
from squadron.dataflow.digests import Digests, as_keys
from squadron.dataflow.driver import Graph
from squadron.errors import GuardError
from squadron.generations.catalog import Generations
from squadron.generations.model_canary import check_model, probe_vectors
from squadron.generations.search import live_catalog
from squadron.process.progress import Progress
from squadron.runs.budget import affordable_cost
from squadron.runs.collection_lock import only_run
from squadron.runs.comparison import EXAMPLES, Comparison, estimated_tokens, id_bytes
from squadron.settings.schema import Settings
from squadron.sources.rows import Unreadable

log = logging.getLogger(__name__)

VECTORS_CHECKED = 500
REPAIR = "verify --repair"
"""What a repair is called where runs are named."""


class VerifyCounts(TypedDict):
    """Of passages, but for `documents`."""

    documents: int
    passages: int
    missing: int
    refused: int
    """Of the missing ones, those that the embedding service refused, as the quarantine says."""
    extra: int
    altered: int
    held_back: int
    """Rows that may be of what cannot be read of the corpus, or whose document's new version was refused."""
    vectors_checked: int
    written: int
    deleted: int
    left: int
    """What a repair could not mend, because the service refused it: it is in the quarantine."""


class Distance(TypedDict):
    """How far a generation is from the corpus."""

    generation: str
    live: bool
    rows: int
    recorded_rows: int | None
    missing_documents: int
    extra_documents: int


class VerifyReport(TypedDict):
    """What a comparison found, and a repair did."""

    collection: str
    generation: str
    sound: bool
    repaired: bool
    counts: VerifyCounts
    examples: dict[str, list[str]]
    """Ids of passages that are `missing`, `altered` or `extra`."""
    generations: list[Distance]
    seconds: float


def verify(settings: Settings, repair: bool = False, vectors: int | None = None) -> VerifyReport:
    """Compare the live generation with the corpus; with `repair`, write and delete what is needed to make them equal.

    All ids and columns are compared. Vectors are made anew, past the cache, for about `vectors` passages (500), others
    each time.
    Raises, before anything is written, what an ingest raises for a corpus that cannot be read, is empty, or lacks more
    documents than `guard.max_deleted_fraction` allows, for a model that is not the one which made the generation, and
    for more tokens than the budget allows.
    """
    if repair:
        with only_run(settings):
            return _verified(settings, True, vectors)
    return _verified(settings, False, vectors)


def _verified(settings: Settings, repair: bool, vectors: int | None) -> VerifyReport:
    started = time.monotonic()
    catalog, live = live_catalog(settings)
    graph, record = catalog.graph, catalog[live]
    checked = VECTORS_CHECKED if vectors is None else vectors
    if (repair or checked) and record.canary is not None:
        check_model(settings, probe_vectors(graph), record)
    table = catalog.writable_table(live)
    stored = graph.value("stored_documents", generation_table=table)
    repeated = _checked_before(settings, graph, stored, repair)
    findings = None
    if repair:
        findings = Findings(settings, REPAIR, "passages")
        Findings.forget(settings, REPAIR)
        # A plan made before is of rows that will be others.
        catalog.change(live, planned_by=REPAIR, repairing=True, taken_back=False)
    corpus = Corpus(settings, graph, graph.value("stored_documents", stored_ids=[]), repeated=repeated)
    comparison = Comparison(settings, graph, table, stored.ids, checked, findings)
    deleted, progress = 0, Progress("verify", None, "passages")
    try:
        for passages in _passages(corpus, graph):
            comparison.add(passages)
            progress.add(passages.num_rows)
        check_corpus(settings, corpus, None)
        extra, held_back = comparison.unexplained(corpus)
        if repair and len(extra):
            _refuse_many(settings, len(extra), len(stored.ids))
            deleted = graph.value("rows_deleted", generation_table=table, expired_ids=extra)
    finally:
        if comparison.written or deleted:
            graph.value("index_built", generation_table=table, kept_version=record.base_version)
            rows = graph.value("row_count", generation_table=table)
            catalog.change(live, rows=rows, questions_digest=None)
    if comparison.written or deleted:
        catalog.change(live, documents=corpus.documents)
    counts: VerifyCounts = {
        "documents": corpus.documents,
        "passages": comparison.passages,
        "missing": comparison.missing,
        "refused": (refused := comparison.refused()),
        "extra": len(extra),
        "altered": comparison.altered,
        "held_back": held_back,
        "vectors_checked": comparison.vectors_checked,
        "written": comparison.written,
        "deleted": deleted,
        "left": comparison.left,
    }
    return {
        "collection": settings.collection,
        "generation": live,
        "sound": not (comparison.missing > refused or len(extra) or comparison.altered),
        "repaired": repair,
        "counts": counts,
        "examples": comparison.examples | {"extra": extra[:EXAMPLES].to_pylist()},
        "generations": list(_distances(catalog, comparison.digests())),
        "seconds": round(time.monotonic() - started, 3),
    }


def _checked_before(settings: Settings, graph: Graph, stored: StoredDocuments, repair: bool) -> list[Unreadable]:
    """The documents that the corpus has in several versions.

    What nothing may be mended by is refused: the corpus, or what is missing, if that costs more than the budget.
    """
    repeated: list[Unreadable] = []
    cache, there = opened_cache(settings, graph) if repair else None, as_keys(stored.ids)
    while True:
        corpus, tokens = Corpus(settings, graph, stored, repeated=repeated), 0
        for batch in _passages(corpus, graph) if repair else corpus.changes():
            if repair:
                missing = ~np.isin(as_keys(id_bytes(batch["id"].combine_chunks())), there)
                tokens += estimated_tokens(graph, cache, batch.filter(pa.array(missing)))
        if not (more := corpus.repeated_documents()):
            break
        repeated += more
    if repair:
        check_corpus(settings, corpus, None)
        affordable_cost(settings, tokens)
    return repeated


def _passages(corpus: Corpus, graph: Graph) -> Iterator[pa.Table]:
    graph.kept("tokenizer")
    for documents in corpus.changes():
        if documents.num_rows:
            yield graph.value("passages", changed_documents=documents)


def _distances(catalog: Generations, corpus: Digests) -> Iterator[Distance]:
    """How far each generation is from the corpus, in documents."""
    for name, record in sorted(catalog.items()):
        if not record.is_described:  # a run has just begun it, or died then
            continue
        stored = catalog.stored_documents(name)
        complete = stored.digests[stored.complete]
        yield {
            "generation": name,
            "live": name == catalog.live,
            "rows": len(stored.ids),
            "recorded_rows": record.rows,
            "missing_documents": int((complete.positions(corpus) < 0).sum()),
            "extra_documents": int((corpus.positions(complete) < 0).sum()),
        }


def _refuse_many(settings: Settings, extra: int, stored: int) -> None:
    if extra > settings.guard.max_deleted_fraction * stored:
        raise GuardError(
            f"the corpus explains {stored - extra} of the {stored} rows: guard.max_deleted_fraction allows "
            f"{settings.guard.max_deleted_fraction:.1%} to be deleted. Nothing was deleted. Is this its corpus?"
        )
