"""An ended batch: its vectors go into the cache, and what it says of the other texts is told."""

from collections.abc import Callable

import numpy as np
from openai.types import Batch

from squadron.cache.vectors import EmbeddingCache
from squadron.embeddings.openai_batch.service import BatchService, Result

VECTORS_AT_ONCE = 2_048


class EndedBatch:
    """What its files say. The error file is read at once, the vectors when they are asked for."""

    def __init__(self, service: BatchService, batch: Batch) -> None:
        self._service, self._batch = service, batch
        self.reasons: dict[str, str] = {}
        """Key of each refused text -> what the service said."""
        self.faults: list[str] = []
        """Why the service will answer no text until something is changed."""
        self.unfinished: set[str] = set()
        """Keys of texts that may be asked for again."""
        self.kept: set[str] = set()
        """Keys of texts whose vectors are in the cache now."""
        self.billed_tokens = 0
        for result in service.results(batch.error_file_id):
            if not self._is_failure(result):
                self.unfinished.add(result.key)

    def keep_vectors(self, cache: EmbeddingCache, is_wanted: Callable[[str], bool]) -> None:
        """Put the vectors of the wanted keys into the cache, some thousand at a time."""
        vectors: dict[str, np.ndarray] = {}
        for result in self._service.results(self._batch.output_file_id):
            self.billed_tokens += result.tokens
            if not self._is_failure(result) and result.vector is not None and is_wanted(result.key):
                vectors[result.key] = result.vector
            if len(vectors) == VECTORS_AT_ONCE:
                self._keep(cache, vectors)
                vectors = {}
        self._keep(cache, vectors)

    def _is_failure(self, result: Result) -> bool:
        if result.reason:
            self.reasons[result.key] = result.reason
        elif result.fault:
            self.faults.append(result.fault)
        return bool(result.reason or result.fault)

    def _keep(self, cache: EmbeddingCache, vectors: dict[str, np.ndarray]) -> None:
        if vectors:
            cache.add_digests([bytes.fromhex(key) for key in vectors], np.stack(list(vectors.values())))
            self.kept |= vectors.keys()
