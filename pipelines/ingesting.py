"""Ingesting: the passages of a shard become vectors, and rows of the store."""

import logging
import time
from dataclasses import replace
from typing import Any

import numpy as np
import pyarrow as pa

from pipelines import staging
from pipelines.cache import EmbeddingCache, cached_vectors, opened_cache
from pipelines.catalog import shared_graph
from pipelines.embeddings.retrying import RefusedTextsError
from pipelines.graph import Graph
from pipelines.outcomes import Ingested, Plan
from pipelines.progress import Progress
from pipelines.settings import Settings
from pipelines.staging import Shard

log = logging.getLogger(__name__)


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
