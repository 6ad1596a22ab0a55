"""Ingesting: the passages of a shard become vectors, and rows of the store.

Three stages work at the same time: one reads the next batch and fills its texts, one embeds this batch, one writes
the batch before. Each holds one batch, and none begins one before the next stage has taken the last.
"""

import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace

import numpy as np
import pyarrow as pa

from squadron.cache.vectors import EmbeddingCache
from squadron.corpus.findings import Findings
from squadron.dataflow.cached_vectors import cached_vectors, opened_cache
from squadron.dataflow.driver import Graph
from squadron.embeddings.remote.failures import RefusedTextsError
from squadron.generations.catalog import Generations
from squadron.process.prefetch import prefetched
from squadron.process.progress import Progress
from squadron.runs.batched_shard import Batched, batched_vectors, forget_batches
from squadron.runs.budget import Alert, Spending, by_endpoint, model_counters
from squadron.runs.results import Ingested, Plan
from squadron.settings.schema import Settings
from squadron.staging import shards as staging
from squadron.staging.shards import Shard


@dataclass(frozen=True)
class _Embedded:
    """A batch on its way into the store."""

    passages: pa.Table
    """Those that have a vector."""
    vectors: np.ndarray
    counts: Ingested


def ingest_shard(
    settings: Settings,
    plan: Plan,
    shard: Shard,
    alert: Alert | None = None,
    batched: Batched | None = None,
    generations: Generations | None = None,
) -> Ingested:
    """Embed a shard's passages and write them, batch by batch: after a crash the batches written stay.

    `alert` is told when a share of the budget is spent. Raises GuardError, with nothing sent after it, when the run
    has spent more than its budget; what was embedded before is in the cache and the store. `batched`: what became of
    the shard's texts in batches, where these are wanted.
    """
    started = time.monotonic()
    catalog = Generations.of(settings) if generations is None else generations
    graph = catalog.graph
    catalog.planned(plan.generation, plan.run_id)
    catalog.writable_table(plan.generation)  # before anything is paid for
    cache = opened_cache(settings, graph)
    stage = f"ingest {shard.number + 1}/{len(plan.shards)}" if len(plan.shards) > 1 else "ingest"
    progress = Progress(stage, shard.passages, "passages")
    spending = Spending(settings, plan, shard, lambda: model_counters(graph.made("model")), alert)
    for job, tokens in batched.billed_tokens if batched else ():
        spending.note_batch(job, tokens)
    refused = Findings(settings, plan.run_id, f"shard-{shard.number:05d}")
    spending.check()
    done = overlapped(
        _batches(graph, shard, settings.ingest.batch_passages),
        lambda passages, texts: _embedded(graph, cache, passages, texts, spending, refused, batched),
        lambda embedded: _written(catalog, plan, embedded, progress),
        spending.check,
    )
    if batched:
        forget_batches(settings, batched)
    refused.write()
    usage = spending.usage()
    return replace(
        done,
        tokens=shard.tokens,
        device=graph.kept("device") if done.embedded else None,
        seconds=time.monotonic() - started + (batched.seconds if batched else 0.0),
        billed_tokens=usage["billed", ""],
        billed_cost=spending.cost(),
        endpoints=by_endpoint(usage),
    )


def overlapped(
    batches: Iterable[tuple[pa.Table, list[str]]],
    embed: Callable[[pa.Table, list[str]], _Embedded],
    write: Callable[[_Embedded], Ingested],
    check: Callable[[], None],
) -> Ingested:
    """What became of the batches. The first error of a stage ends the others, when they have done what they are at."""
    done = Ingested()
    writing: Future[Ingested] | None = None
    with ThreadPoolExecutor(1, "writing") as writer, prefetched(batches, most=1) as read:
        for passages, texts in read:
            embedded = embed(passages, texts)
            if writing:
                done += writing.result()
            writing = writer.submit(write, embedded)
            del passages, texts, embedded
            check()
        return done + writing.result() if writing else done


def _batches(graph: Graph, shard: Shard, batch_passages: int) -> Iterator[tuple[pa.Table, list[str]]]:
    """The shard's passages, and what the model reads of each."""
    for passages in staging.read_batches(shard.path, batch_passages):
        yield passages, graph.value("embedding_texts", passages=passages)


def _embedded(
    graph: Graph,
    cache: EmbeddingCache | None,
    passages: pa.Table,
    texts: list[str],
    spending: Spending,
    refused: Findings,
    batched: Batched | None,
) -> _Embedded:
    """Embed a batch; what the service refuses is left out, told, and tried again by the next run."""
    sent = _tokens_to_send(cache, texts, passages)
    reasons: dict[int, str] = {}
    try:
        if batched:
            vectors, cached = batched_vectors(batched, graph, cache, texts)
        else:
            vectors, cached = cached_vectors(graph, cache, "embeddings", texts)
    except RefusedTextsError as refusal:
        vectors, cached, reasons = refusal.embeddings, refusal.cached, refusal.reasons
    except BaseException:
        spending.note(0)  # requests that were answered before this one failed were billed
        raise
    spending.note(sent)
    refused.add_passages(passages, reasons)
    counts = Ingested(embedded=len(texts) - cached - len(reasons), cached=cached, quarantined=len(reasons))
    if reasons:
        sound = np.array([row not in reasons for row in range(len(texts))], bool)
        passages, vectors = passages.filter(pa.array(sound)), vectors[sound]
    return _Embedded(passages, vectors, counts)


def _written(catalog: Generations, plan: Plan, embedded: _Embedded, progress: Progress) -> Ingested:
    """Write a batch, unless another run has planned for the generation since: embedding may have taken long."""
    catalog.read()
    catalog.planned(plan.generation, plan.run_id)
    passages, vectors = embedded.passages, embedded.vectors
    table = catalog.writable_table(plan.generation)
    written = catalog.graph.value("rows_written", passages=passages, embeddings=vectors, generation_table=table)
    progress.add(passages.num_rows + embedded.counts.quarantined)
    return replace(embedded.counts, written=written)


def _tokens_to_send(cache: EmbeddingCache | None, texts: list[str], passages: pa.Table) -> int:
    """Tokens of the distinct texts that the cache lacks."""
    lacking = np.ones(len(texts), bool) if cache is None else ~cache.contains(texts)
    counts = zip(texts, passages["tokens"].to_pylist(), lacking, strict=True)
    return sum({text: tokens for text, tokens, sent in counts if sent}.values())
