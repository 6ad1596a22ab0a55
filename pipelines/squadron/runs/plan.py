"""Planning: the corpus is compared with the store, and the work laid out in staging, before anything is paid for."""

import logging
import time
from typing import Any

import pyarrow as pa

from squadron.corpus.findings import Findings
from squadron.corpus.guards import check_candidate, check_corpus
from squadron.corpus.quarantine import folder as quarantine_folder
from squadron.corpus.questions import questions_digest
from squadron.corpus.reading import Corpus
from squadron.corpus.retitled import retitled_documents
from squadron.dataflow.changes import StoredDocuments
from squadron.dataflow.driver import Graph, shared_graph
from squadron.dataflow.vector_space import query_prompt
from squadron.embeddings.tokenization import is_upper_bound
from squadron.generations.catalog import Generations
from squadron.generations.model_canary import checked_model
from squadron.runs.budget import affordable_cost
from squadron.runs.results import Plan
from squadron.runs.staged_passages import compared_corpus
from squadron.runs.target import Target, target_of
from squadron.settings.credentials import is_remote
from squadron.settings.registry import load
from squadron.settings.schema import Settings
from squadron.staging import abandoned as leftovers
from squadron.staging import shards as staging
from squadron.staging.shard_writer import ShardWriter
from squadron.staging.shards import Shard

log = logging.getLogger(__name__)


def plan_run(settings: Settings, run_id: str, dry_run: bool = False, generations: Generations | None = None) -> Plan:
    """Compare the corpus with the store, and lay out the work in staging; a dry run writes nothing.

    `generations`: those of the collection, just read, if the caller has them.
    Raises SettingsError, SourceError, GuardError or StoreError before anything is embedded or stored.
    """
    started = time.monotonic()
    graph = shared_graph(settings)
    settings = _with_pinned_source(settings)
    graph.keep("vector_space", "passage_tokens", "tokenizer", "client")
    target = target_of(settings, Generations(graph) if generations is None else generations)
    folder = staging.run_folder(settings.ingest.staging, settings.collection, run_id)
    writer = None if dry_run else ShardWriter(folder, settings.ingest.shard_passages)
    try:
        if writer:
            _sweep(settings, folder, run_id)
        corpus, staged, writer = compared_corpus(settings, graph, target.stored, run_id, writer)
        _check(settings, corpus, target)
        cost = affordable_cost(settings, staged.estimated_tokens)
        canary = None
        if writer and (staged.estimated_tokens or is_remote(settings)):
            canary = checked_model(settings, graph, target.record)
        expired = _expired(graph, corpus, target.stored)
        shards = _laid_out(settings, target, corpus, expired, canary, folder, writer, run_id) if writer else []
    except BaseException:
        if writer:
            staging.remove(folder, but=staging.SPENT)
        raise
    asked, questions = corpus.asked()
    plan = Plan(
        run_id=run_id,
        collection=settings.collection,
        generation=target.generation,
        vector_space=target.space,
        live=target.live,
        version=target.version,
        folder=folder,
        shards=shards,
        documents=corpus.documents,
        passages=corpus.unchanged_passages + staged.passages,
        unchanged=corpus.unchanged_passages,
        deleted=len(expired),
        quarantined=corpus.blank + corpus.unread.items,
        tokens=staged.tokens,
        estimated_tokens=staged.estimated_tokens,
        estimates_are_upper_bounds=is_upper_bound(graph.kept("tokenizer")),
        cost=cost,
        questions=questions.num_rows,
        asked=asked,
        questions_digest=questions_digest(questions, query_prompt(settings)),
        example_question=questions["question"][0].as_py() if questions.num_rows else None,
        seconds=time.monotonic() - started,
        held_back=corpus.withheld_passages,
        source_revision=settings.source.revision,
    )
    _log_plan(plan, corpus, settings.source.limit)
    return plan


def _sweep(settings: Settings, folder: str, run_id: str) -> None:
    """Remove what earlier runs have left: an earlier try of this one, but for what it spent, and those that died."""
    staging.remove(folder, but=staging.SPENT)
    Findings.forget(settings, run_id)
    leftovers.collect(settings.ingest.staging, settings.collection)
    leftovers.sweep(quarantine_folder(settings))
    if settings.cache.path:
        leftovers.sweep(settings.cache.path)


def _with_pinned_source(settings: Settings) -> Settings:
    """The settings, their source naming the commit that it has now: every pass over the corpus reads the same.

    Of a source without commits, such as files, the settings name none.
    """
    pinned = getattr(load("sources", settings.source.name), "pinned", lambda source: source)
    return settings.model_copy(update={"source": pinned(settings.source)})


def _check(settings: Settings, corpus: Corpus, target: Target) -> None:
    """Raise when the corpus cannot be what its owner wants to be indexed, or the generation would lack documents."""
    replaced = target.replaced

    def retitled() -> int:
        graph, generation = target.catalog.graph, target.generation
        return retitled_documents(settings, graph, generation, target.stored, corpus.vanished)

    check_corpus(settings, corpus, target.catalog[replaced].documents if replaced else None, retitled)
    if replaced and corpus.unread:
        check_candidate(corpus, target.catalog.stored_documents(replaced).digests)


def _expired(graph: Graph, corpus: Corpus, stored: StoredDocuments) -> pa.Array:
    """The ids of the rows that are to be deleted."""
    seen = corpus.seen | corpus.withheld(stored.digests)
    if seen.all():
        return corpus.leftover_ids()
    expired = graph.value("expired_ids", stored_documents=stored, seen=seen)
    return pa.concat_arrays([expired, corpus.leftover_ids()])


def _laid_out(
    settings: Settings,
    target: Target,
    corpus: Corpus,
    expired: pa.Array,
    canary: str | None,
    folder: str,
    writer: ShardWriter,
    run_id: str,
) -> list[Shard]:
    """The shards, after all of the plan is in staging and the generation is there."""
    shards = writer.close()
    staging.write_table(f"{folder}/expired.parquet", pa.table({"id": expired}))
    staging.write_table(f"{folder}/questions.parquet", corpus.asked()[1])
    if not target.record.is_described:
        fields = {"vector_space": target.space, "canary": canary, "planned_by": run_id}
        target.catalog.begin(settings, target.generation, withdrawal_due=target.has_siblings, **fields)
        return shards
    changed: dict[str, Any] = {}
    if shards or len(expired):
        # From here on neither index nor figures are those of the rows, until they are made anew.
        changed = {"index": None, "questions_digest": None, "canary": target.record.canary or canary}
        changed |= {"base_version": target.version if target.generation == target.live else None}
        changed |= {"withdrawal_due": target.record.withdrawal_due or target.has_siblings}
    changed |= {"planned_by": run_id, "taken_back": False, "repairing": False}
    target.catalog.change(target.generation, **changed)
    return shards


def _log_plan(plan: Plan, corpus: Corpus, limit: int | None) -> None:
    if corpus.unread.items:
        unread = corpus.unread
        log.warning("%d rows or files of the corpus are in quarantine, unread: %s", unread.items, unread.shown())
    if corpus.without_document:
        log.warning(
            "%d rows of the corpus have neither a text nor an id, and are no documents", corpus.without_document
        )
    if corpus.limited and corpus.vanished_documents:
        log.warning(
            "source.limit = %s: %d documents of the index lie beyond it, or have left the corpus, and are deleted",
            *(limit, corpus.vanished_documents),
        )
    if plan.held_back:
        log.warning("%d passages that the corpus does not show stay, until all of it can be read", plan.held_back)
    log.info(
        "plan for %s: %d documents, %d passages, %d unchanged, %d to embed (%d tokens), %d to delete",
        *(plan.generation, plan.documents, plan.passages, plan.unchanged),
        *(plan.to_embed, plan.tokens, plan.deleted),
    )
