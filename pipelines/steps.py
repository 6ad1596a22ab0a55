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

from pipelines import quarantine, staging
from pipelines.cache import evict, opened_cache
from pipelines.catalog import (
    Promotion,
    collect_generations,
    describe,
    lead_on,
    now,
    read_catalog,
    shared_graph,
)
from pipelines.dataflow.changes import ID_DIGITS
from pipelines.dataflow.digests import Digests, from_hex
from pipelines.errors import GuardError, StoreError
from pipelines.gate import live_metrics, pass_gate, unsound_rows
from pipelines.graph import Graph
from pipelines.outcomes import Evaluation, Finished, Plan
from pipelines.searching import measured
from pipelines.settings import Settings

log = logging.getLogger(__name__)


def finish(settings: Settings, plan: Plan, quarantined: int = 0) -> Finished:
    """Delete what left the corpus, build the index, and see that every row is there.

    `quarantined`: passages that the embedding service refused; the version before of their documents stays. Raises
    GuardError, with nothing deleted, when they are too many, and StoreError when the generation does not hold exactly
    the plan's other passages.
    """
    started = time.monotonic()
    allowed = settings.guard.max_quarantined_fraction
    if quarantined > allowed * plan.passages:
        raise GuardError(
            f"the embedding service refused {quarantined} of {plan.passages} passages: guard.max_quarantined_fraction "
            f"allows {allowed:.1%}. `python -m pipelines quarantine` lists them, and why. Nothing was deleted or "
            "promoted"
        )
    graph = shared_graph(settings)
    collection = graph.value("collection", generation=plan.generation)
    deleted, held_back, index = 0, 0, read_catalog(graph)[0][plan.generation].get("index")
    if plan.deleted:
        expired = staging.read_table(f"{plan.folder}/expired.parquet")["id"].combine_chunks()
        kept = _versions_before(graph, plan, collection, expired) if quarantined else np.zeros(len(expired), bool)
        held_back = int(kept.sum())
        deleted = graph.value("rows_deleted", collection=collection, expired_ids=expired.filter(pa.array(~kept)))
    rows, wanted = graph.value("row_count", collection=collection), plan.passages - quarantined + held_back
    if rows != wanted:
        raise StoreError(
            f"generation {plan.generation!r} holds {rows} rows, the plan wants {wanted}: "
            "it was not promoted. Ingest again: what is missing is written, what is too much deleted"
        )
    if plan.to_embed or plan.deleted or not index:
        index = graph.value("index_built", collection=collection)
    describe(graph, plan.generation, rows=rows, documents=plan.documents, index=index)
    quarantine.settle(settings, plan.run_id)
    if held_back:
        log.warning("%d rows of documents stay, whose new versions the embedding service refused", held_back)
    log.info("%s holds %d rows, as planned; %d deleted; index: %s", plan.generation, rows, deleted, index)
    return Finished(rows, deleted, index, time.monotonic() - started, held_back)


def evaluate(settings: Settings, plan: Plan) -> Evaluation:
    """Ask the generation the corpus's own questions, or probes, and read some of its new rows back.

    Where nothing has changed, the recorded figures stand. Whether they are good enough is for the gate to say.
    """
    started = time.monotonic()
    graph = shared_graph(settings)
    existing, _ = read_catalog(graph)
    recorded = existing[plan.generation]
    unchanged = not plan.to_embed and not plan.deleted
    if unchanged and recorded.get("questions_digest") == plan.questions_digest:
        log.info("nothing changed since %s was evaluated: its figures stand", plan.generation)
        return Evaluation(recorded["metrics"], {}, [], plan.questions, plan.asked, True, time.monotonic() - started)
    questions = staging.read_table(f"{plan.folder}/questions.parquet")
    metrics = measured(graph, plan.generation, questions, opened_cache(settings, graph, "query"))
    before = live_metrics(settings, plan, questions, existing.get(plan.live or "", {}))
    unsound = unsound_rows(graph, plan)
    return Evaluation(metrics, before, unsound, plan.questions, plan.asked, False, time.monotonic() - started)


def promote(settings: Settings, plan: Plan, evaluation: Evaluation) -> Promotion:
    """Make the generation live if it is good enough, record its figures, and drop generations beyond retention.

    Raises GateError when recall@10 is too low, StaleLiveError when another run moved the pointer.
    """
    started = time.monotonic()
    graph = shared_graph(settings)
    existing, _ = read_catalog(graph)
    staging.remove(plan.folder)
    pass_gate(settings, graph, plan, evaluation)
    rolled_back = existing[plan.generation].get("rolled_back_at")
    describe(
        graph,
        plan.generation,
        metrics=evaluation.metrics,
        questions=evaluation.questions,
        questions_digest=plan.questions_digest,
        updated_at=now(),
    )
    held = None
    if plan.generation != plan.live:
        if rolled_back:
            held = f"{plan.generation} was rolled back at {rolled_back}: `promote {plan.generation}` makes it live"
            log.warning("not promoted: %s", held)
        else:
            lead_on(graph, plan.live, plan.generation)
            graph.value("promoted", generation=plan.generation, expected_live=plan.live)
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


def _versions_before(graph: Graph, plan: Plan, collection: Any, expired: pa.Array) -> np.ndarray:
    """`bool [expired]`: the rows of documents whose new version is not whole; they are what readers have."""
    ids = [staging.read_table(shard.path, ["id"])["id"].combine_chunks() for shard in plan.shards]
    planned, old = (Digests.read(from_hex(each, ID_DIGITS)[0]) for each in (pa.concat_arrays(ids), expired))
    stored = graph.value("stored_documents", stored_ids=graph.value("stored_ids", collection=collection))
    at = stored.digests.positions(planned)
    whole = at >= 0
    whole[whole] = stored.complete[at[whole]]
    return np.isin(old.identities(), planned.identities()[~whole])
