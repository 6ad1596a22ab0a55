"""Steps: finish, evaluate, promote, after `planning` and `ingesting`; what a task of the DAG or the command line calls.

Each takes settings and what the steps before it returned, all of it small and plain enough for XCom. Each may be
run again after a crash: a plan is made anew, rows are replaced, deletes repeat, the live pointer is compared
before it is moved.
"""

import logging
import time
from typing import Any

import numpy as np
import pyarrow as pa

from squadron.cache.vectors import evict, opened_cache
from squadron.corpus import quarantine
from squadron.dataflow.changes import ID_DIGITS
from squadron.dataflow.digests import Digests, as_keys, from_hex
from squadron.dataflow.driver import Graph
from squadron.errors import GuardError, StoreError
from squadron.generations.catalog import (
    Promotion,
    collect_generations,
    describe,
    move_live,
    now,
    opened,
    planned_generation,
    read_catalog,
    shared_graph,
)
from squadron.generations.search import Asking
from squadron.runs.quality_gate import figures_before, pass_gate, taken_back, unsound_rows
from squadron.runs.results import Evaluation, Finished, Plan
from squadron.settings.schema import Settings
from squadron.staging import shards as staging

log = logging.getLogger(__name__)

_NO_IDS = pa.array([], pa.string())


def finish(settings: Settings, plan: Plan, quarantined: int = 0) -> Finished:
    """Delete what left the corpus, build the index, and see that every row is there.

    `quarantined`: passages that the embedding service refused; the version before of their documents stays. Raises
    GuardError, with nothing deleted, when they are too many, or when a new generation would lack documents of the live
    one for them, and StoreError when the generation does not hold exactly the plan's other passages.
    """
    started = time.monotonic()
    allowed = settings.guard.max_quarantined_fraction
    if quarantined > allowed * plan.passages:
        raise GuardError(
            f"the embedding service refused {quarantined} of {plan.passages} passages: guard.max_quarantined_fraction "
            f"allows {allowed:.1%}. `squadron quarantine` lists them, and why. Nothing was deleted or "
            "promoted"
        )
    graph = shared_graph(settings)
    about = planned_generation(graph, plan)
    collection = graph.value("collection", generation=plan.generation)
    expired = staging.read_table(f"{plan.folder}/expired.parquet")["id"].combine_chunks() if plan.deleted else _NO_IDS
    unwritten = _unwritten(graph, plan, collection, quarantined) if quarantined else Digests.joined([])
    # The rows of a document whose new version is not whole are what readers have.
    held_back = np.isin(_documents(expired).identities(), unwritten.identities())
    if len(expired):
        graph.value("rows_deleted", collection=collection, expired_ids=expired.filter(pa.array(~held_back)))
    rows, wanted = graph.value("row_count", collection=collection), plan.passages - len(unwritten) + held_back.sum()
    if rows != wanted:
        raise StoreError(
            f"generation {plan.generation!r} holds {rows} rows, the plan wants {wanted}: "
            "it was not promoted. Ingest again: what is missing is written, what is too much deleted"
        )
    index = about.get("index")
    if plan.to_embed or plan.deleted or not index:
        index = graph.value("index_built", collection=collection, kept_version=about.get("base_version"))
    describe(graph, plan.generation, rows=rows, documents=plan.documents, index=index)
    quarantine.settle(settings, plan.run_id)
    deleted, stay = len(expired) - int(held_back.sum()), int(held_back.sum())
    if stay:
        log.warning("%d rows of documents stay, whose new versions the embedding service refused", stay)
    log.info("%s holds %d rows, as planned; %d deleted; index: %s", plan.generation, rows, deleted, index)
    return Finished(rows, deleted, index, time.monotonic() - started, stay)


def evaluate(settings: Settings, plan: Plan) -> Evaluation:
    """Ask the generation the corpus's own questions, or probes, and read some of its new rows back.

    Where nothing has changed, the recorded figures stand. Whether they are good enough is for the gate to say.
    """
    started = time.monotonic()
    graph = shared_graph(settings)
    recorded = planned_generation(graph, plan)
    unchanged = not plan.to_embed and not plan.deleted
    reused = unchanged and recorded.get("questions_digest") == plan.questions_digest
    if reused and plan.generation == plan.live:
        log.info("nothing changed since %s was evaluated: its figures stand", plan.generation)
        asked = recorded.get("questions", plan.questions)
        return Evaluation(recorded["metrics"], {}, [], asked, plan.asked, True, time.monotonic() - started)
    questions = staging.read_table(f"{plan.folder}/questions.parquet")
    asking = Asking.of(graph, questions, opened_cache(settings, graph, "query"))
    metrics = recorded["metrics"] if reused else asking.measured(opened(graph, plan.generation))
    before = figures_before(settings, plan, asking, questions)
    unsound = unsound_rows(graph, plan)
    asked = asking.questions.num_rows
    return Evaluation(metrics, before, unsound, asked, plan.asked, reused, time.monotonic() - started)


def promote(settings: Settings, plan: Plan, evaluation: Evaluation) -> Promotion:
    """Make the generation live if it is good enough, record its figures, and drop generations beyond retention.

    Raises GateError when recall@10 is too low, StaleLiveError when another run moved the pointer, GuardError when
    another run has planned for the generation since.
    """
    started = time.monotonic()
    graph = shared_graph(settings)
    rolled_back = planned_generation(graph, plan).get("rolled_back_at")
    staging.remove(plan.folder)
    pass_gate(settings, graph, plan, evaluation)
    describe(
        graph,
        plan.generation,
        metrics=evaluation.metrics,
        questions=evaluation.questions,
        questions_digest=plan.questions_digest,
        measured_digest=plan.questions_digest,
        base_version=None,
        updated_at=now(),
    )
    held = None
    if plan.generation != plan.live:
        if rolled_back:
            held = f"{plan.generation} was rolled back at {rolled_back}: `promote {plan.generation}` makes it live"
            log.warning("not promoted: %s", held)
        else:
            move_live(graph, plan.live, plan.generation)
            log.info("%s is live in %s, %s before", plan.generation, plan.collection, plan.live)
    collected = [] if held else collect_generations(graph, settings)
    if settings.cache.path and settings.cache.max_age_days:
        evict(settings.cache.path, settings.cache.max_age_days)
    pointer = graph.value("live_generation")
    return Promotion(
        live=pointer and pointer["generation"],
        previous=pointer and pointer["previous"],
        promoted=plan.generation != plan.live and not held,
        held=held,
        collected=collected,
        seconds=time.monotonic() - started,
    )


def withdraw(settings: Settings, plan: Plan) -> str:
    """Undo what a run has changed in place, because a person says so; what came of it, in a sentence."""
    graph = shared_graph(settings)
    planned_generation(graph, plan)
    return taken_back(graph, plan)


def _unwritten(graph: Graph, plan: Plan, collection: Any, quarantined: int) -> Digests:
    """The documents of the planned passages that the store lacks, one for each passage.

    Raises StoreError when more are lacking than the service refused, GuardError when the live generation has such a
    document, and this one is to take its place.
    """
    planned = from_hex(staging.planned_ids(plan.folder), ID_DIGITS)[0]
    stored = graph.value("stored_documents", stored_ids=graph.value("stored_ids", collection=collection))
    lacking = Digests.read(planned[~np.isin(as_keys(planned), as_keys(stored.ids))])
    if len(lacking) > quarantined:
        raise StoreError(
            f"generation {plan.generation!r} lacks {len(lacking)} of the {len(planned)} planned passages, the service "
            f"refused {quarantined}: it was not promoted. Ingest again: what is missing is written"
        )
    existing, _ = read_catalog(graph)
    if plan.live in existing and plan.live != plan.generation:
        ids = graph.value("stored_ids", collection=opened(graph, plan.live, existing[plan.live]))
        held = graph.value("stored_documents", stored_ids=ids).digests.identities()
        if lost := len(np.intersect1d(held, lacking.identities())):
            raise GuardError(
                f"{plan.generation} would lack {lost} documents of the live {plan.live}, for the embedding service "
                "refused them: `squadron quarantine` lists them, and why. Mend them, or take them out of "
                f"the corpus; `promote --force {plan.generation}` makes it live all the same"
            )
    return lacking


def _documents(ids: pa.Array) -> Digests:
    """Of passages, the documents' digests."""
    return Digests.read(from_hex(ids, ID_DIGITS)[0])
