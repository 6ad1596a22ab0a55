"""Planning: the corpus is compared with the store, and the work laid out in staging, before anything is paid for."""

import logging
import time
from contextlib import closing
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa

from squadron.corpus.findings import Findings
from squadron.corpus.guards import check_candidate, check_corpus
from squadron.corpus.quarantine import folder as quarantine_folder
from squadron.corpus.questions import questions_digest
from squadron.corpus.reading import Corpus
from squadron.corpus.retitled import retitled_documents
from squadron.dataflow.cached_cuts import CutCache
from squadron.dataflow.cached_vectors import opened_cache
from squadron.dataflow.changes import StoredDocuments
from squadron.dataflow.driver import Graph, shared_graph
from squadron.dataflow.vector_space import generation_name, query_prompt, vector_space
from squadron.embeddings.tokenization import is_upper_bound
from squadron.generations.catalog import Generations
from squadron.generations.model_canary import checked_model
from squadron.generations.record import GenerationRecord
from squadron.runs.budget import affordable_cost
from squadron.runs.results import Plan
from squadron.settings.credentials import is_remote
from squadron.settings.registry import load
from squadron.settings.schema import Settings
from squadron.sources.rows import Unreadable
from squadron.staging import abandoned as leftovers
from squadron.staging import shards as staging
from squadron.staging.shard_writer import ShardWriter
from squadron.staging.shards import Shard

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class _Target:
    """The generation that is planned for, and what there is already."""

    generation: str
    space: dict[str, str]
    catalog: Generations
    stored: StoredDocuments
    version: int | None
    """What the generation was at when the gate let it pass last; None while there is none, or where the store keeps no
    versions."""

    @property
    def record(self) -> GenerationRecord:
        """The generation's record; an empty one while it is not there."""
        return self.catalog.get(self.generation)

    @property
    def live(self) -> str | None:
        """The generation that is live."""
        return self.catalog.live

    @property
    def replaced(self) -> str | None:
        """The live generation that this one is to take the place of, if it is another."""
        return self.live if self.live in self.catalog and self.live != self.generation else None

    def documents_of(self, generation: str) -> StoredDocuments:
        """The documents that another generation holds."""
        documents: StoredDocuments = self.catalog.values(generation, "stored_documents")["stored_documents"]
        return documents


@dataclass(frozen=True)
class Staged:
    """What is to be embedded."""

    passages: int = 0
    tokens: int = 0
    estimated_tokens: int = 0
    """Tokens of the passages whose vectors are not in the cache."""


def staged_passages(settings: Settings, graph: Graph, corpus: Corpus, writer: ShardWriter | None) -> Staged:
    """Cut the changed documents; the passages wait in the writer's shards if there is one."""
    cache, cuts, staged = opened_cache(settings, graph), CutCache(settings, graph), Staged()
    with closing(corpus.changes()) as changes:
        for documents in changes:
            if not documents.num_rows:
                continue
            values = graph.values(["passages", "embedding_texts"], changed_documents=documents, cuts=cuts.of(documents))
            cut, texts = values["passages"], values["embedding_texts"]
            corpus.note_cut(cut)
            tokens = cut["tokens"].to_numpy()
            paid = ~cache.contains(texts) if cache else np.ones(len(tokens), bool)
            if writer and not staged.estimated_tokens and paid.any():
                graph.begin_model()  # it is ready when the plan is
            staged = Staged(
                staged.passages + cut.num_rows,
                staged.tokens + int(tokens.sum()),
                staged.estimated_tokens + int(tokens[paid].sum()),
            )
            if writer:
                writer.add(cut)
    if writer:
        cuts.write()
    return staged


def plan_run(settings: Settings, run_id: str, dry_run: bool = False, generations: Generations | None = None) -> Plan:
    """Compare the corpus with the store, and lay out the work in staging; a dry run writes nothing.

    `generations`: those of the collection, just read, if the caller has them.
    Raises SettingsError, SourceError, GuardError or StoreError before anything is embedded or stored.
    """
    started = time.monotonic()
    graph = shared_graph(settings)
    settings = _with_pinned_source(settings)
    graph.keep("vector_space", "passage_tokens", "tokenizer", "client")
    target = _target(settings, Generations(graph) if generations is None else generations)
    folder = staging.run_folder(settings.ingest.staging, settings.collection, run_id)
    writer = None if dry_run else ShardWriter(folder, settings.ingest.shard_passages)
    try:
        if writer:
            _sweep(settings, folder, run_id)
        corpus, staged, writer = _compared(settings, graph, target.stored, run_id, writer)
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


def _target(settings: Settings, catalog: Generations) -> _Target:
    space = vector_space(settings)
    generation = generation_name(settings.collection, space)
    if generation not in catalog:
        stored: StoredDocuments = catalog.graph.value("stored_documents", stored_ids=[])
        return _Target(generation, space, catalog, stored, None)
    values = catalog.values(generation, "stored_documents", "version")
    version = values["version"]
    # A run that changed the generation and was not let pass, or died before that, has left what to return to.
    if generation == catalog.live and catalog[generation].base_version is not None:
        version = catalog[generation].base_version
    return _Target(generation, space, catalog, values["stored_documents"], version)


def _sweep(settings: Settings, folder: str, run_id: str) -> None:
    """Remove what earlier runs have left: an earlier try of this one, but for what it spent, and those that died."""
    staging.remove(folder, but=staging.SPENT)
    Findings.forget(settings, run_id)
    leftovers.collect(settings.ingest.staging, settings.collection)
    leftovers.sweep(quarantine_folder(settings))
    if settings.cache.path:
        leftovers.sweep(settings.cache.path)


def _compared(
    settings: Settings, graph: Graph, stored: StoredDocuments, run_id: str, writer: ShardWriter | None
) -> tuple[Corpus, Staged, ShardWriter | None]:
    """The corpus after a pass over it, with what is to be embedded waiting in the writer's shards."""
    findings = Findings(settings, run_id, "rows")
    corpus = Corpus(settings, graph, stored, findings)
    staged = staged_passages(settings, graph, corpus, writer)
    repeated: list[Unreadable] = []
    while more := corpus.repeated_documents():  # all over again, without them; under a limit it meets others then
        repeated += more
        findings.clear()
        corpus = Corpus(settings, graph, stored, findings, repeated)
        writer = writer and writer.restarted()
        staged = staged_passages(settings, graph, corpus, writer)
    if writer and (corpus.documents or corpus.unread.items):
        findings.write()  # before a guard counts them: then a person wants to see them
    return corpus, staged, writer


def _with_pinned_source(settings: Settings) -> Settings:
    """The settings, their source naming the commit that it has now: every pass over the corpus reads the same."""
    pinned = getattr(load("sources", settings.source.name), "pinned", None)
    return settings.model_copy(update={"source": pinned(settings.source)}) if pinned else settings


def _check(settings: Settings, corpus: Corpus, target: _Target) -> None:
    """Raise when the corpus cannot be what its owner wants to be indexed, or the generation would lack documents."""
    replaced = target.replaced

    def retitled() -> int:
        graph, generation = target.catalog.graph, target.generation
        return retitled_documents(settings, graph, generation, target.stored, corpus.vanished)

    check_corpus(settings, corpus, target.catalog[replaced].documents if replaced else None, retitled)
    if replaced and corpus.unread:
        check_candidate(corpus, target.documents_of(replaced).digests)


def _expired(graph: Graph, corpus: Corpus, stored: StoredDocuments) -> pa.Array:
    """The ids of the rows that are to be deleted."""
    seen = corpus.seen | corpus.withheld(stored.digests)
    if seen.all():
        return corpus.leftover_ids()
    expired = graph.value("expired_ids", stored_documents=stored, seen=seen)
    return pa.concat_arrays([expired, corpus.leftover_ids()])


def _laid_out(
    settings: Settings,
    target: _Target,
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
        target.catalog.begin(settings, target.generation, vector_space=target.space, canary=canary, planned_by=run_id)
        return shards
    changed: dict[str, Any] = {}
    if shards or len(expired):
        # From here on neither index nor figures are those of the rows, until they are made anew.
        changed = {"index": None, "questions_digest": None, "canary": target.record.canary or canary}
        changed |= {"base_version": target.version if target.generation == target.live else None}
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
