"""OpenAI at half price: texts are embedded by the Batch API, within a day, and their vectors cached.

`BatchMode.advanced` may be called at any time, in any process: it finds the batches that were submitted before, takes
what they brought, submits the texts that are in none, and says what is still to be waited for. When nothing is
pending, the vectors are in the cache.
"""

import logging
import time
from collections.abc import Mapping

from squadron.cache.vectors import EmbeddingCache
from squadron.embeddings.openai_batch.batched import LONGEST_SECONDS, Batched, EmbeddingText, Spending
from squadron.embeddings.openai_batch.jobs import Jobs
from squadron.embeddings.openai_batch.service import BatchService
from squadron.embeddings.openai_batch.work import Work
from squadron.embeddings.remote.failures import BusyServiceError
from squadron.settings.embedding_sections import OpenAISettings

log = logging.getLogger(__name__)


class BatchMode:
    """The batches of one collection and vector space."""

    def __init__(
        self,
        settings: OpenAISettings,
        collection: str,
        vector_space: Mapping[str, str],
        dimension: int,
        cache_path: str,
        cache: EmbeddingCache,
    ) -> None:
        """`cache` holds the vectors of this space; the jobs are kept beside it, at `cache_path`."""
        self._collection, self._cache = collection, cache
        self._poll_seconds = settings.batch_poll_seconds
        self._jobs = Jobs(cache_path, vector_space)
        self._service = BatchService(settings, dimension)

    def advanced(
        self, texts: Mapping[str, EmbeddingText], batches: dict[str, str], spending: Spending | None = None
    ) -> Batched:
        """Take what the batches of these texts brought, submit what is in none, and say what to wait for.

        `batches`: job -> batch as earlier calls have left it, brought up to date; the service is asked for what it
        lacks. Raises DeniedServiceError when a batch was refused or cancelled, BusyServiceError when the service
        cannot be reached or a day passed with nothing done; what was finished is kept in either case. `spending`
        learns what each job was billed; what it raises when it does not admit the next job is raised here, and that
        job is not submitted.
        """
        work = Work(self._service, self._jobs, self._cache, self._collection, texts, batches, spending)
        for job in self._jobs.of(texts.keys()):
            work.take_up(job)
        work.submit_rest()
        return work.outcome()

    def wait(self, batched: Batched) -> None:
        """Return when one of the pending batches has ended, or their time is over."""
        time.sleep(batched.wait_seconds)
        deadline = time.monotonic() + LONGEST_SECONDS
        while batched.pending and time.monotonic() < deadline:
            time.sleep(self._poll_seconds)
            try:
                if not any(self._service.is_pending(batch_id) for batch_id in batched.pending):
                    return
            except BusyServiceError as busy:
                log.warning("%s: asked again in %g s", busy, self._poll_seconds)

    def forget(self, batched: Batched) -> None:
        """Forget the jobs: their vectors are in the store."""
        for name in batched.jobs:
            self._jobs.close(name)
