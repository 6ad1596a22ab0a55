"""A shard in OpenAI's batch mode: its texts are submitted, and its vectors taken from the cache when they are there.

The DAG looks once and defers (`batched_shard`), the command line waits (`batched_shards`).
"""

from typing import TYPE_CHECKING

import numpy as np

from squadron.cache.keys import text_digest
from squadron.cache.vectors import EmbeddingCache
from squadron.dataflow.cached_vectors import cached_vectors, opened_cache
from squadron.dataflow.driver import Graph, shared_graph
from squadron.dataflow.vector_space import embedding_space
from squadron.embeddings.openai_batch.batched import LONGEST_SECONDS, Batched, EmbeddingText
from squadron.embeddings.remote.failures import RefusedTextsError
from squadron.errors import SettingsError
from squadron.runs.budget import Alert, Spending, Usage
from squadron.runs.results import Plan
from squadron.settings.schema import Settings
from squadron.staging import shards as staging
from squadron.staging.shards import Shard

if TYPE_CHECKING:
    from squadron.embeddings.openai_batch.batch_mode import BatchMode

__all__ = [
    "LONGEST_SECONDS",
    "Batched",
    "batch_spending",
    "batched_shard",
    "batched_shards",
    "batched_vectors",
    "forget_batches",
]


def batched_shard(
    settings: Settings, shard: Shard, batches: dict[str, str], spending: Spending | None = None
) -> Batched:
    """One look at a shard's batches: what they brought is cached, what is in none is submitted.

    See `BatchMode.advanced` for `batches`, and for what it raises.
    """
    return _batch_mode(settings).advanced(_embedding_texts(settings, shard), batches, spending)


def batched_shards(settings: Settings, shards: list[Shard], plan: Plan | None = None) -> dict[int, Batched]:
    """Every shard's texts, embedded in batches, by its number: all are submitted before the first is waited for.

    With a budget, which the plan's run keeps to, the first that is submitted is waited for alone: what it was billed
    tells what the others will be. Empty where batches are not wanted.
    """
    if not settings.embedding.in_batches:
        return {}
    batches: dict[str, str] = {}
    spending = {shard.number: batch_spending(settings, plan, shard) if plan else None for shard in shards}
    outcomes: dict[int, Batched] = {}

    def advance(shard: Shard) -> bool:
        outcomes[shard.number] = batched_shard(settings, shard, batches, spending[shard.number])
        return outcomes[shard.number].ready

    for shard in shards:
        own = spending[shard.number]
        while not advance(shard) and own and own.is_limited and not own.knows_a_batch:
            _batch_mode(settings).wait(outcomes[shard.number])
    for shard in shards:
        while not outcomes[shard.number].ready:
            _batch_mode(settings).wait(outcomes[shard.number])
            advance(shard)
    return outcomes


def batch_spending(settings: Settings, plan: Plan, shard: Shard, alert: Alert | None = None) -> Spending:
    """What the batches of a shard spend of the run's budget."""
    return Spending(settings, plan, shard, Usage, alert)


def batched_vectors(
    batched: Batched, graph: Graph, cache: EmbeddingCache | None, texts: list[str]
) -> tuple[np.ndarray, int]:
    """As `cached_vectors`: the vectors, and how many there were before the batches were submitted.

    Raises RefusedTextsError for the texts that the batches refused. What the cache has lost since is embedded at
    once, at the usual price.
    """
    reasons, keys = dict(batched.reasons), [_key(text) for text in texts]
    refused = {row: reasons[key] for row, key in enumerate(keys) if key in reasons}
    accepted = [row for row in range(len(texts)) if row not in refused]
    try:
        accepted_vectors, _ = cached_vectors(graph, cache, "embeddings", [texts[row] for row in accepted])
    except RefusedTextsError as refusal:
        accepted_vectors = refusal.embeddings
        refused |= {accepted[position]: reason for position, reason in refusal.reasons.items()}
    if not refused:
        return accepted_vectors, sum(key not in batched.embedded for key in keys)
    vectors = np.full((len(texts), graph.kept("dimension")), np.nan, np.float32)
    vectors[accepted] = accepted_vectors
    raise RefusedTextsError("openai", refused, vectors)


def forget_batches(settings: Settings, batched: Batched) -> None:
    """The vectors of a shard are in the store: its jobs need not be remembered any more."""
    if batched.jobs:
        _batch_mode(settings).forget(batched)


def _batch_mode(settings: Settings) -> "BatchMode":
    """Raises SettingsError where there is no cache, or no key."""
    from squadron.embeddings.openai_batch.batch_mode import BatchMode

    graph = shared_graph(settings)
    cache = opened_cache(settings, graph)
    if cache is None or settings.cache.path is None:
        raise SettingsError("embedding.openai.mode is 'batch', whose vectors wait in the cache: set cache.path")
    space, dimension = embedding_space(settings, graph), graph.kept("dimension")
    return BatchMode(settings.embedding.openai, settings.collection, space, dimension, settings.cache.path, cache)


def _embedding_texts(settings: Settings, shard: Shard) -> dict[str, EmbeddingText]:
    """What the model is to read of each passage, by key."""
    graph, texts = shared_graph(settings), dict[str, EmbeddingText]()
    for passages in staging.read_batches(shard.path, settings.ingest.batch_passages):
        filled: list[str] = graph.value("embedding_texts", passages=passages)
        for text, tokens in zip(filled, passages["tokens"].to_pylist(), strict=True):
            texts[_key(text)] = EmbeddingText(text, tokens)
    return texts


def _key(text: str) -> str:
    return text_digest(text).hex()
