"""Steps: plan, ingest_shard, finish, evaluate, promote; what a task of the DAG or the command line calls.

Each takes settings and what the steps before it returned, all of it small and plain enough for XCom. Each may be
run again after a crash: a plan is made anew, rows are replaced, deletes repeat, the live pointer is compared
before it is moved.
"""

import logging
import time
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pyarrow as pa

from pipelines import staging
from pipelines.cache import EmbeddingCache, cached_vectors, evict, opened_cache
from pipelines.catalog import (
    Promotion,
    collect_generations,
    create_generation,
    describe,
    fingerprint,
    now,
    read_catalog,
    shared_graph,
    vector_space,
)
from pipelines.embeddings.retrying import RefusedTextsError
from pipelines.errors import GateError, GuardError, StoreError
from pipelines.graph import Graph
from pipelines.models import price_of
from pipelines.planning import Corpus, staged_passages
from pipelines.progress import Progress
from pipelines.searching import measured
from pipelines.settings import Settings
from pipelines.staging import Shard, ShardWriter

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Plan:
    """What a run will do. Counts are of passages, but for `documents` and `quarantined` (rows)."""

    run_id: str
    collection: str
    generation: str
    vector_space: dict[str, str]
    """What defines the generation's vectors, spelled out."""
    live: str | None
    """The generation that was live when the plan was made."""
    folder: str
    shards: list[Shard]
    documents: int
    passages: int
    unchanged: int
    deleted: int
    quarantined: int
    tokens: int
    """Of the passages that the store lacks."""
    billed_tokens: int
    """Of those, tokens that must be embedded: their vectors are not in the cache."""
    cost: float | None
    """US dollars for them; None when the model's price is not known."""
    questions: int
    questions_digest: str
    example_question: str | None
    seconds: float

    @property
    def to_embed(self) -> int:
        """Passages that the store lacks."""
        return self.passages - self.unchanged

    @classmethod
    def of(cls, plain: dict[str, Any]) -> "Plan":
        """The plan that `asdict` made plain."""
        return cls(**plain | {"shards": [Shard(**shard) for shard in plain["shards"]]})


@dataclass(frozen=True)
class Ingested:
    """What became of a shard, or of several."""

    embedded: int = 0
    cached: int = 0
    written: int = 0
    quarantined: int = 0
    """Passages that the service refused."""
    tokens: int = 0
    device: str | None = None
    seconds: float = 0.0

    def __add__(self, other: "Ingested") -> "Ingested":
        return Ingested(
            self.embedded + other.embedded,
            self.cached + other.cached,
            self.written + other.written,
            self.quarantined + other.quarantined,
            self.tokens + other.tokens,
            other.device or self.device,
            self.seconds + other.seconds,
        )


@dataclass(frozen=True)
class Finished:
    """The generation after the deletes and the index."""

    rows: int
    deleted: int
    index: str
    seconds: float


@dataclass(frozen=True)
class Evaluation:
    """How well the generation answers the corpus's questions."""

    metrics: dict[str, float]
    questions: int
    reused: bool
    """Nothing had changed since these figures were measured."""
    seconds: float


def plan(settings: Settings, run_id: str, dry_run: bool = False) -> Plan:
    """Compare the corpus with the store, and lay out the work in staging; a dry run writes nothing.

    Raises SettingsError, SourceError, GuardError or StoreError before anything is embedded or stored.
    """
    started = time.monotonic()
    graph = shared_graph(settings)
    space = vector_space(settings)
    generation = f"{settings.collection}_{fingerprint(space)[:8]}"
    existing, live = read_catalog(graph)
    stored = graph.value("stored_documents", stored_ids=_ids_of(graph, generation if generation in existing else None))
    folder = staging.run_folder(settings.ingest.staging, settings.collection, run_id)
    corpus = Corpus(settings, graph, stored)
    writer = None if dry_run else ShardWriter(folder, settings.ingest.shard_passages)
    try:
        if writer:
            staging.remove(folder)  # what an earlier try of this run has left
        staged = staged_passages(corpus, graph, opened_cache(settings, graph), writer)
        corpus.check(existing[live].get("documents") if live in existing and live != generation else None)
        cost = _affordable_cost(settings, staged.billed_tokens)
        expired = graph.value("expired_ids", stored_documents=stored, seen=corpus.seen)
        expired = pa.concat_arrays([expired, corpus.leftover_ids()])
        shards = writer.close() if writer else []
        if writer:
            staging.write_table(f"{folder}/expired.parquet", pa.table({"id": expired}))
            staging.write_table(f"{folder}/questions.parquet", corpus.questions.table())
            if "created_at" not in existing.get(generation, {}):
                create_generation(graph, settings, generation, space)
            elif shards or len(expired):
                # From here on neither index nor figures are those of the rows, until they are made anew.
                describe(graph, generation, index=None, questions_digest=None)
    except BaseException:
        if writer:
            staging.remove(folder)
        raise

    questions = corpus.questions.table()
    made = Plan(
        run_id=run_id,
        collection=settings.collection,
        generation=generation,
        vector_space=space,
        live=live,
        folder=folder,
        shards=shards,
        documents=corpus.documents,
        passages=corpus.unchanged_passages + staged.passages,
        unchanged=corpus.unchanged_passages,
        deleted=len(expired),
        quarantined=corpus.blank,
        tokens=staged.tokens,
        billed_tokens=staged.billed_tokens,
        cost=cost,
        questions=questions.num_rows,
        questions_digest=corpus.questions.digest(),
        example_question=questions["question"][0].as_py() if questions.num_rows else None,
        seconds=time.monotonic() - started,
    )
    log.info(
        "plan for %s: %d documents, %d passages, %d unchanged, %d to embed (%d tokens), %d to delete, %d shards",
        *(generation, made.documents, made.passages, made.unchanged),
        *(made.to_embed, made.tokens, made.deleted, len(made.shards)),
    )
    return made


def ingest_shard(settings: Settings, plan: Plan, shard: Shard) -> Ingested:
    """Embed a shard's passages and write them, batch by batch: after a crash the batches written stay."""
    started = time.monotonic()
    graph = shared_graph(settings)
    collection = graph.value("collection", generation=plan.generation)
    cache = opened_cache(settings, graph)
    stage = f"ingest {shard.number + 1}/{len(plan.shards)}" if len(plan.shards) > 1 else "ingest"
    progress = Progress(stage, shard.passages, "passages")
    done = Ingested()
    for passages in staging.read_batches(shard.path, settings.ingest.batch_passages):
        done += _ingest_batch(graph, cache, passages, collection)
        progress.add(passages.num_rows)
    return replace(
        done,
        tokens=shard.tokens,
        device=graph.value("device") if done.embedded else None,
        seconds=time.monotonic() - started,
    )


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
            f"allows {allowed:.1%}. The log of the ingest says why; nothing was deleted or promoted"
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
    log.info("%s holds %d rows, as planned; %d deleted; index: %s", plan.generation, rows, deleted, index)
    return Finished(rows, deleted, index, time.monotonic() - started)


def evaluate(settings: Settings, plan: Plan) -> Evaluation:
    """Ask the generation the corpus's own questions. Where nothing has changed, the recorded figures stand."""
    started = time.monotonic()
    graph = shared_graph(settings)
    recorded = read_catalog(graph)[0][plan.generation]
    unchanged = not plan.to_embed and not plan.deleted
    if unchanged and recorded.get("questions_digest") == plan.questions_digest:
        log.info("nothing changed since %s was evaluated: its figures stand", plan.generation)
        return Evaluation(recorded["metrics"], plan.questions, True, time.monotonic() - started)
    questions = staging.read_table(f"{plan.folder}/questions.parquet")
    metrics = measured(graph, plan.generation, questions, opened_cache(settings, graph, "query"))
    return Evaluation(metrics, plan.questions, False, time.monotonic() - started)


def promote(settings: Settings, plan: Plan, evaluation: Evaluation) -> Promotion:
    """Make the generation live if it is good enough, record its figures, and drop generations beyond retention.

    Raises GateError when recall@10 is too low, StaleLiveError when another run moved the pointer.
    """
    started = time.monotonic()
    graph = shared_graph(settings)
    existing, _ = read_catalog(graph)
    staging.remove(plan.folder)
    _pass_gate(settings, evaluation, plan, existing.get(plan.live or "", {}))
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


def _ids_of(graph: Graph, generation: str | None) -> Any:
    if generation is None:
        return []
    collection = graph.value("collection", generation=generation, metadata_columns=())
    return graph.value("stored_ids", collection=collection)


def _ingest_batch(graph: Graph, cache: EmbeddingCache | None, passages: pa.Table, collection: Any) -> Ingested:
    """Embed and write a batch; what the service refuses is left out, told, and tried again by the next run."""
    texts = graph.value("embedding_texts", passages=passages)
    reasons: dict[int, str] = {}
    try:
        vectors, cached = cached_vectors(graph, cache, "embeddings", texts)
    except RefusedTextsError as refusal:
        vectors, cached, reasons = refusal.embeddings, 0, refusal.reasons
    for row, reason in reasons.items():
        place = f"passage {passages['id'][row]} of document {passages['document_id'][row]}"
        log.warning("%s is in quarantine: %s", place, reason)
    sound = np.array([row not in reasons for row in range(len(texts))], bool)
    written = graph.value(
        "rows_written", passages=passages.filter(pa.array(sound)), embeddings=vectors[sound], collection=collection
    )
    return Ingested(
        embedded=len(texts) - cached - len(reasons), cached=cached, written=written, quarantined=len(reasons)
    )


def _affordable_cost(settings: Settings, tokens: int) -> float | None:
    """US dollars for so many tokens. Raises GuardError when the budget does not allow them."""
    price = price_of(settings)
    cost = None if price is None else tokens * price / 1e6
    budget = settings.budget
    if budget.max_tokens is not None and tokens > budget.max_tokens:
        raise GuardError(
            f"{tokens:,} tokens are to be embedded, budget.max_tokens allows {budget.max_tokens:,}: nothing was sent. "
            "Raise it, or ingest less (source.limit)"
        )
    if budget.max_cost_usd is not None and cost is None and tokens:
        raise GuardError(
            "budget.max_cost_usd is set, but config/models.toml has no price for the model: write it there, or unset it"
        )
    if budget.max_cost_usd is not None and cost is not None and cost > budget.max_cost_usd:
        raise GuardError(
            f"{tokens:,} tokens would cost {cost:.4f} USD, budget.max_cost_usd allows {budget.max_cost_usd:.4f}: "
            "nothing was sent. Raise it, or ingest less (source.limit)"
        )
    return cost


def _pass_gate(settings: Settings, evaluation: Evaluation, plan: Plan, live: dict[str, Any]) -> None:
    recall = evaluation.metrics.get("recall_at_10")
    if recall is None:
        return
    refused = f"{plan.generation} is kept for inspection, {plan.live or 'nothing'} stays live"
    if recall < settings.gate.min_recall_at_10:
        raise GateError(
            f"recall@10 is {recall:.4f} on {evaluation.questions} questions, gate.min_recall_at_10 wants "
            f"{settings.gate.min_recall_at_10:.4f}: {refused}"
        )
    before = live.get("metrics", {}).get("recall_at_10")
    if before is not None and before - recall > settings.gate.max_drop:
        raise GateError(
            f"recall@10 fell from {before:.4f} ({plan.live}) to {recall:.4f}, "
            f"gate.max_drop allows {settings.gate.max_drop:.4f}: {refused}"
        )
