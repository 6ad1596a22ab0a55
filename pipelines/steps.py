"""Steps: plan, finish, evaluate, promote (`ingesting` is between); what a task of the DAG or the command line calls.

Each takes settings and what the steps before it returned, all of it small and plain enough for XCom. Each may be
run again after a crash: a plan is made anew, rows are replaced, deletes repeat, the live pointer is compared
before it is moved.
"""

import logging
import time
from typing import Any

import pyarrow as pa

from pipelines import leftovers, quarantine, staging
from pipelines.budget import affordable_cost
from pipelines.cache import evict, opened_cache, sweep
from pipelines.canary import checked_model
from pipelines.catalog import (
    Promotion,
    collect_generations,
    create_generation,
    describe,
    fingerprint,
    lead_on,
    now,
    opened,
    read_catalog,
    shared_graph,
    vector_space,
)
from pipelines.credentials import is_remote
from pipelines.errors import GuardError, StoreError
from pipelines.gate import live_metrics, pass_gate, unsound_rows
from pipelines.graph import Graph
from pipelines.outcomes import Evaluation, Finished, Plan
from pipelines.planning import Corpus, questions_digest, staged_passages
from pipelines.searching import measured
from pipelines.settings import Settings
from pipelines.staging import ShardWriter

log = logging.getLogger(__name__)


def plan(settings: Settings, run_id: str, dry_run: bool = False) -> Plan:
    """Compare the corpus with the store, and lay out the work in staging; a dry run writes nothing.

    Raises SettingsError, SourceError, GuardError or StoreError before anything is embedded or stored.
    """
    started = time.monotonic()
    graph = shared_graph(settings)
    space = vector_space(settings)
    generation = f"{settings.collection}_{fingerprint(space)[:8]}"
    existing, live = read_catalog(graph)
    ids, version = _held(graph, generation if generation in existing else None)
    stored = graph.value("stored_documents", stored_ids=ids)
    folder = staging.run_folder(settings.ingest.staging, settings.collection, run_id)
    found = quarantine.Findings(settings, run_id, "rows")
    corpus = Corpus(settings, graph, stored, found)
    writer = None if dry_run else ShardWriter(folder, settings.ingest.shard_passages)
    try:
        if writer:
            staging.remove(folder)  # what an earlier try of this run has left
            leftovers.collect(settings.ingest.staging, settings.collection)
            if settings.cache.path:
                sweep(settings.cache.path)
        staged = staged_passages(settings, graph, corpus, writer)
        if repeated := corpus.repeated_documents():  # all over again, without them
            found.clear()
            corpus = Corpus(settings, graph, stored, found, repeated)
            writer = writer and writer.restarted()
            staged = staged_passages(settings, graph, corpus, writer)
        if writer and (corpus.documents or corpus.unread.items):
            found.write()  # before a guard counts them: then a person wants to see them
        corpus.check(existing[live].get("documents") if live in existing and live != generation else None)
        if live in existing and live != generation and corpus.unread:
            ids = graph.value("stored_ids", collection=opened(graph, live, existing[live]))
            corpus.check_candidate(graph.value("stored_documents", stored_ids=ids).digests)
        cost = affordable_cost(settings, staged.billed_tokens)
        probes = None
        if not dry_run and (staged.billed_tokens or is_remote(settings)):
            probes = checked_model(settings, graph, existing.get(generation, {}))
        seen = corpus.seen | corpus.withheld(stored.digests)
        expired = graph.value("expired_ids", stored_documents=stored, seen=seen)
        expired = pa.concat_arrays([expired, corpus.leftover_ids()])
        shards = writer.close() if writer else []
        if writer:
            staging.write_table(f"{folder}/expired.parquet", pa.table({"id": expired}))
            staging.write_table(f"{folder}/questions.parquet", corpus.asked()[1])
            about = existing.get(generation, {})
            if "created_at" not in about:
                create_generation(graph, settings, generation, space, probes)
            elif shards or len(expired):
                # From here on neither index nor figures are those of the rows, until they are made anew.
                describe(graph, generation, index=None, questions_digest=None, probes=about.get("probes", probes))
    except BaseException:
        if writer:
            staging.remove(folder)
        raise

    asked, questions = corpus.asked()
    made = Plan(
        run_id=run_id,
        collection=settings.collection,
        generation=generation,
        vector_space=space,
        live=live,
        version=version,
        folder=folder,
        shards=shards,
        documents=corpus.documents,
        passages=corpus.unchanged_passages + staged.passages,
        unchanged=corpus.unchanged_passages,
        deleted=len(expired),
        quarantined=corpus.blank + corpus.unread.items,
        tokens=staged.tokens,
        billed_tokens=staged.billed_tokens,
        cost=cost,
        questions=questions.num_rows,
        asked=asked,
        questions_digest=questions_digest(questions),
        example_question=questions["question"][0].as_py() if questions.num_rows else None,
        seconds=time.monotonic() - started,
        held_back=corpus.withheld_passages,
    )
    if corpus.unread.items:
        unread = corpus.unread
        log.warning("%d rows or files of the corpus are in quarantine, unread: %s", unread.items, unread.shown())
    if made.held_back:
        log.warning("%d passages that the corpus does not show stay, until all of it can be read", made.held_back)
    log.info(
        "plan for %s: %d documents, %d passages, %d unchanged, %d to embed (%d tokens), %d to delete",
        *(generation, made.documents, made.passages, made.unchanged),
        *(made.to_embed, made.tokens, made.deleted),
    )
    return made


def finish(settings: Settings, plan: Plan, quarantined: int = 0) -> Finished:
    """Delete what left the corpus, build the index, and see that every row is there.

    `quarantined`: passages that the embedding service refused. Raises GuardError, with nothing deleted, when they
    are too many, and StoreError when the generation does not hold exactly the plan's other passages.
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
    deleted, index = 0, read_catalog(graph)[0][plan.generation].get("index")
    if plan.deleted:
        expired = staging.read_table(f"{plan.folder}/expired.parquet")["id"].combine_chunks()
        deleted = graph.value("rows_deleted", collection=collection, expired_ids=expired)
    rows = graph.value("row_count", collection=collection)
    if rows != plan.passages - quarantined:
        raise StoreError(
            f"generation {plan.generation!r} holds {rows} rows, the plan wants {plan.passages - quarantined}: "
            "it was not promoted. Ingest again: what is missing is written, what is too much deleted"
        )
    if plan.to_embed or plan.deleted or not index:
        index = graph.value("index_built", collection=collection)
    describe(graph, plan.generation, rows=rows, documents=plan.documents, index=index)
    quarantine.settle(settings, plan.run_id)
    log.info("%s holds %d rows, as planned; %d deleted; index: %s", plan.generation, rows, deleted, index)
    return Finished(rows, deleted, index, time.monotonic() - started)


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


def _held(graph: Graph, generation: str | None) -> tuple[Any, int | None]:
    """The ids in a generation, and the version it is at; nothing while there is no generation."""
    if generation is None:
        return [], None
    collection = opened(graph, generation)
    return graph.value("stored_ids", collection=collection), graph.value("version", collection=collection)
