"""Steps: plan, ingest_shard, finish, evaluate, promote; what a task of the DAG or the command line calls.

Each takes settings and what the steps before it returned, all of it small and plain enough for XCom. Each may be
run again after a crash: a plan is made anew, rows are replaced, deletes repeat, the live pointer is compared
before it is moved.
"""

import logging
import time
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import lru_cache
from hashlib import blake2b
from typing import Any

import numpy as np
import pyarrow as pa

from pipelines import staging
from pipelines.dataflow.evaluation import PASSAGES_SEARCHED
from pipelines.errors import GateError, StoreError
from pipelines.graph import Graph
from pipelines.planning import Corpus, staged_passages
from pipelines.progress import Progress
from pipelines.settings import Settings
from pipelines.staging import Shard, ShardWriter

log = logging.getLogger(__name__)

QUESTIONS_PER_CALL = 64


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
    questions: int
    questions_digest: str
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
    tokens: int = 0
    device: str | None = None
    seconds: float = 0.0

    def __add__(self, other: "Ingested") -> "Ingested":
        return Ingested(
            self.embedded + other.embedded,
            self.cached + other.cached,
            self.written + other.written,
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


@dataclass(frozen=True)
class Promotion:
    """Which generation is live now."""

    live: str | None
    previous: str | None
    promoted: bool
    held: str | None
    """Why the candidate was not promoted, when it was rolled back before."""
    collected: list[str]
    """Old generations that were dropped."""
    seconds: float


def plan(settings: Settings, run_id: str, dry_run: bool = False) -> Plan:
    """Compare the corpus with the store, and lay out the work in staging; a dry run writes nothing.

    Raises SettingsError, SourceError, GuardError or StoreError before anything is embedded or stored.
    """
    started = time.monotonic()
    graph = _graph(settings)
    space = vector_space(settings)
    generation = f"{settings.collection}_{fingerprint(space)[:8]}"
    existing, live = _catalog(graph)
    stored = graph.value("stored_documents", stored_ids=_ids_of(graph, generation if generation in existing else None))
    folder = staging.run_folder(settings.ingest.staging, settings.collection, run_id)
    corpus = Corpus(settings, graph, stored)
    writer = None if dry_run else ShardWriter(folder, settings.ingest.shard_passages)
    try:
        staging.remove(folder)
        new, tokens = staged_passages(_reported(corpus), graph, writer)
        corpus.check(existing[live].get("documents") if live in existing and live != generation else None)
        expired = graph.value("expired_ids", stored_documents=stored, seen=corpus.seen)
        if writer:
            staging.write_table(f"{folder}/expired.parquet", pa.table({"id": expired}))
            staging.write_table(f"{folder}/questions.parquet", corpus.questions.table())
            if generation not in existing:
                _create(graph, settings, generation, space)
    except BaseException:
        staging.remove(folder)
        raise
    made = Plan(
        run_id=run_id,
        collection=settings.collection,
        generation=generation,
        vector_space=space,
        live=live,
        folder=folder,
        shards=writer.close() if writer else [],
        documents=corpus.documents,
        passages=corpus.unchanged_passages + new,
        unchanged=corpus.unchanged_passages,
        deleted=len(expired),
        quarantined=corpus.blank,
        tokens=tokens,
        questions=corpus.questions.table().num_rows,
        questions_digest=corpus.questions.digest(),
        seconds=time.monotonic() - started,
    )
    log.info(
        "plan for %s: %d documents, %d passages, %d unchanged, %d to embed (%d tokens), %d to delete, %d shards",
        *(generation, made.documents, made.passages, made.unchanged),
        *(made.to_embed, tokens, made.deleted, len(made.shards)),
    )
    return made


def ingest_shard(settings: Settings, plan: Plan, shard: Shard) -> Ingested:
    """Embed a shard's passages and write them, batch by batch: after a crash the batches written stay."""
    started = time.monotonic()
    graph = _graph(settings)
    graph.kept("model")
    device = graph.value("device")
    collection = graph.value("collection", generation=plan.generation)
    progress = Progress("ingest", shard.passages, "passages")
    written = 0
    for passages in staging.read_batches(shard.path, settings.ingest.batch_passages):
        written += graph.value("rows_written", passages=passages, collection=collection)
        progress.add(passages.num_rows)
    return Ingested(
        embedded=shard.passages,
        written=written,
        tokens=shard.tokens,
        device=device,
        seconds=time.monotonic() - started,
    )


def finish(settings: Settings, plan: Plan) -> Finished:
    """Delete what left the corpus, build the index, and see that every row is there.

    Raises StoreError when the generation does not hold exactly the plan's passages.
    """
    started = time.monotonic()
    graph = _graph(settings)
    collection = graph.value("collection", generation=plan.generation)
    deleted, index = 0, _catalog(graph)[0][plan.generation].get("index")
    if plan.deleted:
        expired = staging.read_table(f"{plan.folder}/expired.parquet")["id"].combine_chunks()
        deleted = graph.value("rows_deleted", collection=collection, expired_ids=expired)
    rows = graph.value("row_count", collection=collection)
    if rows != plan.passages:
        raise StoreError(
            f"generation {plan.generation!r} holds {rows} rows, the plan wants {plan.passages}: "
            "it was not promoted. Ingest again: what is missing is written, what is too much deleted"
        )
    if plan.to_embed or plan.deleted or not index:
        index = graph.value("index_built", collection=collection)
    _describe(graph, plan.generation, rows=rows, documents=plan.documents, index=index)
    log.info("%s holds %d rows, as planned; %d deleted; index: %s", plan.generation, rows, deleted, index)
    return Finished(rows, deleted, index, time.monotonic() - started)


def evaluate(settings: Settings, plan: Plan) -> Evaluation:
    """Ask the generation the corpus's own questions. Where nothing has changed, the recorded figures stand."""
    started = time.monotonic()
    graph = _graph(settings)
    recorded = _catalog(graph)[0][plan.generation]
    unchanged = not plan.to_embed and not plan.deleted
    if unchanged and recorded.get("questions_digest") == plan.questions_digest:
        log.info("nothing changed since %s was evaluated: its figures stand", plan.generation)
        return Evaluation(recorded["metrics"], plan.questions, True, time.monotonic() - started)
    questions = staging.read_table(f"{plan.folder}/questions.parquet")
    metrics = _measured(graph, plan.generation, questions)
    return Evaluation(metrics, plan.questions, False, time.monotonic() - started)


def promote(settings: Settings, plan: Plan, evaluation: Evaluation) -> Promotion:
    """Make the generation live if it is good enough, record its figures, and drop generations beyond retention.

    Raises GateError when recall@10 is too low, StaleLiveError when another run moved the pointer.
    """
    started = time.monotonic()
    graph = _graph(settings)
    existing, _ = _catalog(graph)
    _pass_gate(settings, evaluation, plan, existing.get(plan.live or "", {}))
    rolled_back = existing[plan.generation].get("rolled_back_at")
    _describe(
        graph,
        plan.generation,
        metrics=evaluation.metrics,
        questions=evaluation.questions,
        questions_digest=plan.questions_digest,
        updated_at=_now(),
    )
    held = None
    if plan.generation != plan.live:
        if rolled_back:
            held = f"{plan.generation} was rolled back at {rolled_back}: `promote {plan.generation}` makes it live"
            log.warning("not promoted: %s", held)
        else:
            graph.value("promoted", generation=plan.generation, expected_live=plan.live)
            log.info("%s is live in %s, %s before", plan.generation, plan.collection, plan.live)
    collected = [] if held else _collect(graph, settings)
    staging.remove(plan.folder)
    pointer = graph.value("live_generation")
    return Promotion(
        live=pointer and pointer["generation"],
        previous=pointer and pointer["previous"],
        promoted=plan.generation != plan.live and not held,
        held=held,
        collected=collected,
        seconds=time.monotonic() - started,
    )


def promote_generation(settings: Settings, generation: str) -> Promotion:
    """Make a generation live because a person says so; no gate is asked."""
    graph = _graph(settings)
    existing, live = _catalog(graph)
    if generation not in existing:
        raise StoreError(
            f"collection {settings.collection!r} has no generation {generation!r}: "
            f"choose from {', '.join(sorted(existing)) or 'none yet, ingest first'}"
        )
    if generation == live:
        return Promotion(live, None, False, "it is live already", [], 0.0)
    pointer = graph.value("promoted", generation=generation, expected_live=live)
    _describe(graph, generation, rolled_back_at=None)
    return Promotion(generation, pointer["previous"], True, None, [], 0.0)


def rollback(settings: Settings) -> Promotion:
    """Make the predecessor live again. The generation left is not promoted by later runs, only by hand."""
    graph = _graph(settings)
    existing, live = _catalog(graph)
    pointer = graph.value("live_generation")
    if not pointer or not pointer["previous"]:
        raise StoreError(f"collection {settings.collection!r} has no earlier generation to return to")
    if pointer["previous"] not in existing:
        raise StoreError(f"{pointer['previous']!r}, which was live before {live!r}, was dropped since")
    moved = graph.value("promoted", generation=pointer["previous"], expected_live=live)
    _describe(graph, live, rolled_back_at=_now())
    _describe(graph, moved["generation"], rolled_back_at=None)
    return Promotion(moved["generation"], live, True, None, [], 0.0)


def generations(settings: Settings) -> list[dict[str, Any]]:
    """The collection's generations, newest first, with their descriptions and whether they are live."""
    existing, live = _catalog(_graph(settings))
    rows = [{"generation": name, "live": name == live, **about} for name, about in existing.items()]
    return sorted(rows, key=lambda row: row.get("created_at") or "", reverse=True)


def search(
    settings: Settings, question: str, top_k: int = 10, filter: dict[str, str] | None = None
) -> list[dict[str, Any]]:
    """The passages of the live generation nearest to the question: rank, passage_id, document_id, title, text, score.

    The question is embedded as that generation's passages were, whatever the settings say now.
    """
    if not question.strip():
        raise StoreError("the question is empty: say what to search for")
    graph, generation = _live_graph(settings)
    found = _matches(graph, generation, [question], top_k, filter)
    return [
        {"rank": row["rank"], "passage_id": row["id"]}
        | {name: row[name] for name in ("document_id", "title", "text", "score")}
        for row in found.to_pylist()
    ]


def measure(settings: Settings) -> dict[str, Any]:
    """Evaluate the live generation now, on the questions of the configured corpus; changes nothing."""
    graph, generation = _live_graph(settings)
    corpus = Corpus(settings, graph, graph.value("stored_documents", stored_ids=[]))
    for _ in _reported(corpus):
        pass
    questions = corpus.questions.table()
    return {
        "collection": settings.collection,
        "generation": generation,
        "questions": questions.num_rows,
        "metrics": _measured(graph, generation, questions),
    }


def vector_space(settings: Settings) -> dict[str, str]:
    """Everything that defines the vectors of a generation, as text; equal spaces are one generation."""
    graph = _graph(settings)
    limits = graph.value("passage_tokens", tokenizer=graph.kept("tokenizer"))
    return {
        **graph.value("vector_space"),
        "template": settings.passages.template,
        "passage_tokens": str(limits),
        "overlap_tokens": str(settings.passages.overlap_tokens),
        "metric": settings.store.metric,
    }


def fingerprint(vector_space: dict[str, str]) -> str:
    """A digest of a vector space; its first 8 digits name the generation."""
    return blake2b(repr(sorted(vector_space.items())).encode(), digest_size=16).hexdigest()


@lru_cache(maxsize=2)
def _graph(settings: Settings) -> Graph:
    """Steps that run in one process share a client, a tokenizer and a model."""
    return Graph(settings)


def _catalog(graph: Graph) -> tuple[dict[str, dict[str, Any]], str | None]:
    """The generations with their descriptions, and which of them is live."""
    found = graph.values(["generations", "live_generation"], client=graph.kept("client"))
    pointer = found["live_generation"]
    return found["generations"], pointer and pointer["generation"]


def _ids_of(graph: Graph, generation: str | None) -> Any:
    if generation is None:
        return []
    collection = graph.value("collection", generation=generation, metadata_columns=())
    return graph.value("stored_ids", collection=collection)


def _reported(corpus: Corpus) -> Iterator[pa.Table]:
    progress = Progress("plan", None, "documents")
    before = 0
    for changes in corpus.changes():
        yield changes
        progress.add(corpus.documents - before)
        before = corpus.documents


def _create(graph: Graph, settings: Settings, generation: str, space: dict[str, str]) -> None:
    graph.value("collection", generation=generation)
    service = settings.embedding.service
    _describe(
        graph,
        generation,
        created_at=_now(),
        vector_space=space,
        dimension=graph.value("dimension"),
        settings={
            "embedding": {"service": service, service: getattr(settings.embedding, service).model_dump()},
            "passages": settings.passages.model_dump(),
            "store": {"metric": settings.store.metric},
        },
    )


def _describe(graph: Graph, generation: str | None, **facts: Any) -> None:
    description = _catalog(graph)[0].get(generation or "", {}) | facts
    kept = {name: fact for name, fact in description.items() if fact is not None}
    graph.value("described", generation=generation, description=kept)


def _live_graph(settings: Settings) -> tuple[Graph, str]:
    """The graph that embeds as the live generation was embedded, and that generation's name."""
    existing, live = _catalog(_graph(settings))
    if live is None or live not in existing:
        raise StoreError(
            f"collection {settings.collection!r} has no live generation in {settings.store.name}: ingest first"
        )
    stored = existing[live]["settings"]
    plain = settings.model_dump()
    for section, values in stored.items():
        plain[section] = plain[section] | values
    return _graph(Settings.model_validate(plain)), live


def _matches(
    graph: Graph, generation: str, questions: list[str], top_k: int, filter: dict[str, str] | None = None
) -> pa.Table:
    graph.kept("model")
    progress = Progress("evaluate", len(questions), "questions") if len(questions) > 1 else None
    vectors = []
    for start in range(0, len(questions), QUESTIONS_PER_CALL):
        asked = questions[start : start + QUESTIONS_PER_CALL]
        vectors.append(graph.value("query_vectors", query_texts=asked))
        if progress:
            progress.add(len(asked))
    collection = graph.value("collection", generation=generation, metadata_columns=())
    return graph.value(
        "matches", collection=collection, query_vectors=np.concatenate(vectors), top_k=top_k, filter=filter
    )


def _measured(graph: Graph, generation: str, questions: pa.Table) -> dict[str, float]:
    if not questions.num_rows:
        log.info("the corpus has no questions: %s is not measured", generation)
        return {}
    found = _matches(graph, generation, questions["question"].to_pylist(), PASSAGES_SEARCHED)
    return graph.value("metrics", questions=questions, matches=found)


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


def _collect(graph: Graph, settings: Settings) -> list[str]:
    """Drop the oldest generations beyond retention, never the live one nor its predecessor."""
    existing, _ = _catalog(graph)
    pointer = graph.value("live_generation")
    wanted = {pointer["generation"], pointer["previous"]}
    newest = sorted(existing, key=lambda name: existing[name].get("created_at") or "", reverse=True)
    for name in newest:
        if len(wanted & existing.keys()) >= settings.retention.generations:
            break
        wanted.add(name)
    collected = [name for name in newest if name not in wanted]
    for name in collected:
        graph.value("dropped", generation=name)
        log.info("%s was dropped: retention.generations is %d", name, settings.retention.generations)
    return collected


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")
