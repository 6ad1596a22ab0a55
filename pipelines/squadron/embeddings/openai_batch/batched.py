"""What became of a shard's texts in OpenAI's Batch API, and their vectors for the ordinary ingest."""

from dataclasses import dataclass, field

import numpy as np

from squadron.cache.vectors import EmbeddingCache
from squadron.dataflow.cached_vectors import cached_vectors
from squadron.dataflow.driver import Graph
from squadron.embeddings.openai_batch.jobs import key_of
from squadron.embeddings.remote.failures import RefusedTextsError


@dataclass(frozen=True)
class Batched:
    """What became of a shard's texts; small, and without the texts."""

    pending: tuple[str, ...] = ()
    """Ids of batches to wait for."""
    wait_seconds: float = 0.0
    """How long to wait before anything else, for the account's queue is full."""
    jobs: tuple[str, ...] = ()
    """Names of the jobs to forget when the vectors are in the store."""
    embedded: frozenset[str] = frozenset()
    """Digests of the texts whose vectors came from batches."""
    billed: tuple[tuple[str, int], ...] = ()
    """Names of jobs that have ended, and the tokens that the service says it billed for each."""
    reasons: tuple[tuple[str, str], ...] = ()
    """Digest of each refused text, and what the service said."""
    seconds: float = field(default=0.0, compare=False)
    """Since the first of them was submitted."""

    @property
    def ready(self) -> bool:
        """Whether nothing is to be waited for."""
        return not self.pending and not self.wait_seconds

    def vectors(
        self, graph: Graph, cache: EmbeddingCache | None, node: str, texts: list[str]
    ) -> tuple[np.ndarray, int]:
        """As `cache.cached_vectors`: the vectors, and how many there were before the batches were submitted.

        Raises RefusedTextsError for the texts that the batches refused. What the cache has lost since is embedded
        at once, at the usual price.
        """
        reasons, keys = dict(self.reasons), [key_of(text) for text in texts]
        refused = {row: reasons[key] for row, key in enumerate(keys) if key in reasons}
        asked = [row for row in range(len(texts)) if row not in refused]
        try:
            found, _ = cached_vectors(graph, cache, node, [texts[row] for row in asked])
        except RefusedTextsError as refusal:
            found = refusal.embeddings
            refused |= {asked[position]: reason for position, reason in refusal.reasons.items()}
        if not refused:
            return found, sum(key not in self.embedded for key in keys)
        vectors = np.full((len(texts), graph.kept("dimension")), np.nan, np.float32)
        vectors[asked] = found
        raise RefusedTextsError("openai", refused, vectors)
