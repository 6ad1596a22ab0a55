"""Ingesting: the passages of a shard become vectors, and rows of the store."""

import logging
import time
from dataclasses import replace
from typing import Any

import numpy as np
import pyarrow as pa

from pipelines import quarantine, staging
from pipelines.budget import Alert, Spending, Usage, by_endpoint, model_counters
from pipelines.cache import EmbeddingCache, cached_vectors, opened_cache
from pipelines.catalog import shared_graph
from pipelines.embeddings import openai_batch
from pipelines.embeddings.openai_batched import Batched
from pipelines.embeddings.retrying import RefusedTextsError
from pipelines.graph import Graph
from pipelines.outcomes import Ingested, Plan
from pipelines.progress import Progress
from pipelines.settings import Settings
from pipelines.staging import Shard

log = logging.getLogger(__name__)


def ingest_shard(
    settings: Settings, plan: Plan, shard: Shard, alert: Alert | None = None, batched: Batched | None = None
) -> Ingested:
    """Embed a shard's passages and write them, batch by batch: after a crash the batches written stay.

    `alert` is told when a share of the budget is spent. Raises GuardError, with nothing sent after it, when the run
    has spent more than its budget; what was embedded before is in the cache and the store. `batched`: what became of
    the shard's texts in batches, where these are wanted.
    """
    started = time.monotonic()
    graph = shared_graph(settings)
    collection = graph.value("collection", generation=plan.generation)
    cache = opened_cache(settings, graph)
    stage = f"ingest {shard.number + 1}/{len(plan.shards)}" if len(plan.shards) > 1 else "ingest"
    progress = Progress(stage, shard.passages, "passages")
    billed = Usage()
    spending = Spending(settings, plan, shard, lambda: model_counters(graph.made("model")) + billed, alert)
    if batched and not spending.usage():  # else an earlier try has counted them
        billed["billed", ""] = batched.tokens
        spending.note(0)
    refused = quarantine.Findings(settings, plan.run_id, f"shard-{shard.number:05d}")
    done = Ingested()
    spending.check()
    for passages in staging.read_batches(shard.path, settings.ingest.batch_passages):
        done += _ingest_batch(graph, cache, passages, collection, spending, refused, batched)
        spending.check()
        progress.add(passages.num_rows)
    openai_batch.forget(settings, batched)
    refused.write()
    usage = spending.usage()
    return replace(
        done,
        tokens=shard.tokens,
        device=graph.value("device") if done.embedded else None,
        seconds=time.monotonic() - started,
        tokens_billed=usage["billed", ""],
        cost_billed=spending.cost(),
        endpoints=by_endpoint(usage),
    )


def _ingest_batch(
    graph: Graph,
    cache: EmbeddingCache | None,
    passages: pa.Table,
    collection: Any,
    spending: Spending,
    refused: quarantine.Findings,
    batched: Batched | None,
) -> Ingested:
    """Embed and write a batch; what the service refuses is left out, told, and tried again by the next run."""
    texts = graph.value("embedding_texts", passages=passages)
    sent = _tokens_to_send(cache, texts, passages)
    reasons: dict[int, str] = {}
    try:
        embed = batched.vectors if batched else cached_vectors
        vectors, cached = embed(graph, cache, "embeddings", texts)
    except RefusedTextsError as refusal:
        vectors, cached, reasons = refusal.embeddings, 0, refusal.reasons
    except BaseException:
        spending.note(0)  # requests that were answered before this one failed were billed
        raise
    spending.note(sent)
    refused.add_passages(passages, reasons)
    sound = np.array([row not in reasons for row in range(len(texts))], bool)
    written = graph.value(
        "rows_written", passages=passages.filter(pa.array(sound)), embeddings=vectors[sound], collection=collection
    )
    return Ingested(
        embedded=len(texts) - cached - len(reasons), cached=cached, written=written, quarantined=len(reasons)
    )


def _tokens_to_send(cache: EmbeddingCache | None, texts: list[str], passages: pa.Table) -> int:
    """Tokens of the distinct texts that the cache lacks."""
    lacking = np.ones(len(texts), bool) if cache is None else ~cache.contains(texts)
    counts = zip(texts, passages["tokens"].to_pylist(), lacking, strict=True)
    return sum({text: tokens for text, tokens, sent in counts if sent}.values())
