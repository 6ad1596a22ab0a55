"""One look at the batches of some texts: what they brought is kept, what is in none is submitted.

A batch that expired, or in which requests failed for reasons that may pass, keeps what it finished; the rest goes
into another one. The service's list of batches is what counts; ids that are remembered only save asking for it.
"""

import logging
import time
from collections.abc import Mapping
from dataclasses import replace

from openai.types import Batch

from squadron.cache.vectors import EmbeddingCache
from squadron.embeddings.openai_batch.batched import LONGEST_SECONDS, Batched, EmbeddingText, Spending
from squadron.embeddings.openai_batch.ended_batch import EndedBatch
from squadron.embeddings.openai_batch.jobs import Job, Jobs
from squadron.embeddings.openai_batch.service import BatchService, parts
from squadron.embeddings.remote.failures import BusyServiceError, DeniedServiceError, quotable
from squadron.errors import EmbeddingError

log = logging.getLogger(__name__)

QUEUE_POLLS = 10
"""When the account's queue is full, a job is submitted again after this many times `batch_poll_seconds`."""
QUEUE_FULL = "token_limit_exceeded"
ENDED = ("completed", "expired", "cancelled")


class Work:
    """Some texts, and what is found out about them."""

    def __init__(
        self,
        service: BatchService,
        jobs: Jobs,
        cache: EmbeddingCache,
        collection: str,
        texts: Mapping[str, EmbeddingText],
        batches: dict[str, str],
        spending: Spending | None,
    ) -> None:
        """`texts` by key: `text_digest`, in hex. `batches`: job -> batch, brought up to date."""
        self._service, self._jobs, self._cache, self._collection = service, jobs, cache, collection
        self._texts, self._batches, self._spending = texts, batches, spending
        cached = cache.contains([each.text for each in texts.values()])
        self._missing = {key for key, there in zip(texts, cached, strict=True) if not there}
        self._touched: dict[str, Job] = {}
        self._reasons: dict[str, str] = {}
        self._pending: list[str] = []
        self._wait_seconds = 0.0

    def take_up(self, job: Job) -> None:
        """Take what a job brought; or wait for it, then its texts are not submitted again."""
        wanted = job.keys & self._missing
        batch = self._batch(job) if wanted else None
        if wanted and batch is None:  # a crash came between writing it down and submitting it
            self._forget(job)
            return
        self._touched[job.name] = job
        if batch is None:
            return
        if batch.status in ENDED:
            self._collect(job, batch, wanted)
            return
        if batch.status == "failed":
            self._try_again(job, batch)
        else:
            self._wait_for(job, batch)
        self._missing -= wanted

    def submit_rest(self) -> None:
        """Submit the texts that are in no batch."""
        sizes = {}
        for key in sorted(self._missing):
            try:
                sizes[key] = len(self._service.line(key, self._texts[key].text))
            except UnicodeEncodeError as error:
                self._reasons[key] = f"it is not Unicode: {error.reason} at character {error.start}"
        for part in parts(sizes):
            job = self._jobs.opened(part)
            if self._spending:
                self._spending.admit_batch(job.name, sum(self._texts[key].tokens for key in part))
            lines = (self._service.line(key, self._texts[key].text) for key in part)
            batch = self._service.submit(job.name, self._collection, lines)
            log.info("batch %s of %d texts: %s", batch.id, len(part), batch.status)
            self._touched[job.name] = job
            self._batches[job.name] = batch.id
            self._pending.append(batch.id)

    def outcome(self) -> Batched:
        """What there is to say."""
        keys = frozenset[str]().union(*(job.keys for job in self._touched.values()))
        own = [job for job in self._touched.values() if self._owns(job)]
        return Batched(
            pending=tuple(self._pending),
            wait_seconds=self._wait_seconds,
            jobs=tuple(job.name for job in own),
            embedded=(keys & self._texts.keys()) - self._reasons.keys(),
            billed_tokens=tuple((job.name, job.billed_tokens) for job in own if job.billed_tokens),
            reasons=tuple(self._reasons.items()),
            seconds=time.time() - min((job.since for job in own), default=time.time()),
        )

    def _owns(self, job: Job) -> bool:
        """Whether this shard keeps all that a job brought, counts what it was billed, and forgets it in the end.

        A job may hold texts of several shards, and of none any more: the corpus has changed since it was submitted.
        """
        return self._spending.owns(job.name) if self._spending else job.keys <= self._texts.keys()

    def _batch(self, job: Job) -> Batch | None:
        """The batch of a job, by the id that is remembered, else by the service's list."""
        batch_id = self._batches.get(job.name)
        batch = (self._service.batch(batch_id) if batch_id else None) or self._service.find(job.name)
        if batch:
            self._batches[job.name] = batch.id
        return batch

    def _forget(self, job: Job) -> None:
        self._jobs.close(job.name)
        self._batches.pop(job.name, None)

    def _ended(self, job: Job, error: EmbeddingError) -> EmbeddingError:
        """The error that a job ended with: another try begins anew."""
        self._forget(job)
        return error

    def _wait_for(self, job: Job, batch: Batch) -> None:
        counts = f"{completed(batch):,} of {len(job.keys):,} texts"
        if time.time() - job.since > LONGEST_SECONDS:
            raise BusyServiceError(
                f"openai's batch {batch.id} is {batch.status} after {LONGEST_SECONDS // 3600} hours, with {counts} "
                "done: run again to wait on, or cancel it"
            )
        log.info("batch %s: %s, %s", batch.id, batch.status, counts)
        self._pending.append(batch.id)

    def _try_again(self, job: Job, batch: Batch) -> None:
        """A batch was refused as a whole: if the account's queue was full, wait and submit it again."""
        errors = (batch.errors.data if batch.errors else None) or []
        reason = "; ".join(quotable(error.message or error.code, "") for error in errors[:3]) or "it gave no reason"
        if not any(error.code == QUEUE_FULL for error in errors):
            raise self._ended(job, DeniedServiceError(f"openai refused the batch {batch.id}: {reason}. Then run again"))
        if time.time() - job.since > LONGEST_SECONDS:
            message = f"openai's queue was full for {LONGEST_SECONDS // 3600} hours: {reason}. Ask for a higher limit"
            raise self._ended(job, BusyServiceError(f"{message}, or set embedding.openai.mode to sync"))
        wait_seconds = QUEUE_POLLS * self._service.poll_seconds
        seconds = (batch.failed_at or batch.created_at) + wait_seconds - time.time()
        if seconds > 0:
            log.info("openai's queue is full: %s. Again in %.0f s", reason, seconds)
            self._wait_seconds = max(self._wait_seconds, seconds)
            return
        again = self._service.create(job.name, self._collection, batch.input_file_id)
        self._batches[job.name] = again.id
        self._pending.append(again.id)

    def _collect(self, job: Job, batch: Batch, wanted: frozenset[str]) -> None:
        """Keep what an ended batch brought; what it did not finish stays missing.

        Of a job of ours all vectors are kept: they are paid for, and once it is forgotten, others look for them there.
        """
        owned, ended = self._owns(job), EndedBatch(self._service, batch)
        if wanted - ended.reasons.keys() - ended.unfinished:
            ended.keep_vectors(self._cache, lambda key: key in self._missing or (owned and key not in self._texts))
            if owned:  # else another shard may be done with it, and have forgotten it
                self._touched[job.name] = self._jobs.written(replace(job, billed_tokens=ended.billed_tokens))
                if self._spending:
                    self._spending.note_batch(job.name, ended.billed_tokens)
        self._missing -= ended.kept | ended.reasons.keys()
        self._reasons |= {key: reason for key, reason in ended.reasons.items() if key in wanted}
        counts = f"{completed(batch):,} of {len(job.keys):,} texts"
        log.info("batch %s: %s, %s, %d refused", batch.id, batch.status, counts, len(ended.reasons))
        if ended.faults:
            raise self._ended(job, DeniedServiceError(f"openai's batch {batch.id}: {ended.faults[0]}"))
        if batch.status == "cancelled":
            message = f"openai's batch {batch.id} was cancelled after {counts}, which are kept"
            raise self._ended(job, DeniedServiceError(f"{message}: run again to submit the others"))
        if wanted <= self._missing and not completed(batch):
            message = f"openai's batch {batch.id} is {batch.status} with {counts} done"
            raise self._ended(job, BusyServiceError(f"{message}: run again to submit them anew"))


def completed(batch: Batch) -> int:
    """How many of a batch's requests have an answer."""
    return batch.request_counts.completed if batch.request_counts else 0
