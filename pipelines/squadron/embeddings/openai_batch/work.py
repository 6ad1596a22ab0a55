"""One look at a shard's batches: what they brought is kept, what is in none is submitted.

A batch that expired, or in which requests failed for reasons that may pass, keeps what it finished; the rest goes
into another one. The service's list of batches is what counts; ids that are remembered only save asking for it.
"""

import logging
import time
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from squadron.dataflow.cached_vectors import opened_cache
from squadron.dataflow.driver import Graph, shared_graph
from squadron.embeddings.openai_batch.batched import Batched
from squadron.embeddings.openai_batch.jobs import Job, key_of
from squadron.embeddings.openai_batch.waiting import LONGEST_SECONDS, open_jobs, service_of
from squadron.embeddings.remote.failures import BusyServiceError, DeniedServiceError, told
from squadron.errors import EmbeddingError
from squadron.runs.budget import Spending
from squadron.settings.schema import Settings
from squadron.staging import shards as staging
from squadron.staging.shards import Shard

if TYPE_CHECKING:
    from openai.types import Batch

log = logging.getLogger(__name__)

QUEUE_POLLS = 10
"""When the account's queue is full, a job is submitted again after so many times `batch_poll_seconds`."""
QUEUE_FULL = "token_limit_exceeded"
KEPT_AT_ONCE = 2_048
ENDED = ("completed", "expired", "cancelled")


def advanced(settings: Settings, shard: Shard, batches: dict[str, str], spending: Spending | None = None) -> Batched:
    """Take what the batches of a shard brought, submit what is in none, and say what to wait for.

    `batches`: job -> batch as earlier calls have left it, brought up to date; the service is asked for what it
    lacks. Raises DeniedServiceError when a batch was refused or cancelled, BusyServiceError when the service cannot
    be reached or let a day pass with nothing done; what was finished is kept in either case. `spending` is told what
    each job was billed; GuardError when it does not allow the next one, which is not submitted then.
    """
    work = _Work(settings, shard, batches, spending)
    for job in work.jobs.of(work.texts):
        work.take_up(job)
    work.submit_rest()
    return work.outcome()


class _Work:
    """The texts of a shard, and what is found out about them."""

    def __init__(self, settings: Settings, shard: Shard, batches: dict[str, str], spending: Spending | None) -> None:
        self._settings, self._batches, self._spending = settings, batches, spending
        graph = shared_graph(settings)
        self.jobs, self._service = open_jobs(settings), service_of(settings)
        self.texts, self._tokens = _texts(settings, graph, shard)
        cache = opened_cache(settings, graph)
        assert cache is not None  # noqa: S101 - or there were no jobs
        self._cache = cache
        cached = cache.contains(list(self.texts.values()))
        self._missing = {key for key, there in zip(self.texts, cached, strict=True) if not there}
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
        from squadron.embeddings.openai_batch.service import parts

        sizes = {}
        for key in sorted(self._missing):
            try:
                sizes[key] = len(self._service.line(key, self.texts[key]))
            except UnicodeEncodeError as error:
                self._reasons[key] = f"it is not Unicode: {error.reason} at character {error.start}"
        for part in parts(sizes):
            job = self.jobs.opened(part)
            if self._spending:
                self._spending.admit_batch(job.name, sum(self._tokens[key] for key in part))
            lines = (self._service.line(key, self.texts[key]) for key in part)
            batch = self._service.submit(job.name, self._settings.collection, lines)
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
            embedded=(keys & self.texts.keys()) - self._reasons.keys(),
            billed=tuple((job.name, job.tokens) for job in own if job.tokens),
            reasons=tuple(self._reasons.items()),
            seconds=time.time() - min((job.since for job in own), default=time.time()),
        )

    def _owns(self, job: Job) -> bool:
        """Whether this shard keeps all that a job brought, counts what it was billed, and forgets it in the end.

        A job may hold texts of several shards, and of none any more: the corpus has changed since it was submitted.
        """
        return self._spending.owns(job.name) if self._spending else job.keys <= self.texts.keys()

    def _batch(self, job: Job) -> "Batch | None":
        """The batch of a job, by the id that is remembered, else by the service's list."""
        known = self._batches.get(job.name)
        batch = (self._service.batch(known) if known else None) or self._service.find(job.name)
        if batch:
            self._batches[job.name] = batch.id
        return batch

    def _forget(self, job: Job) -> None:
        self.jobs.close(job.name)
        self._batches.pop(job.name, None)

    def _ended(self, job: Job, error: EmbeddingError) -> EmbeddingError:
        """The error that a job ended with: who tries again is to begin anew."""
        self._forget(job)
        return error

    def _wait_for(self, job: Job, batch: "Batch") -> None:
        counts = f"{_done(batch):,} of {len(job.keys):,} texts"
        if time.time() - job.since > LONGEST_SECONDS:
            raise BusyServiceError(
                f"openai's batch {batch.id} is {batch.status} after {LONGEST_SECONDS // 3600} hours, with {counts} "
                "done: run again to wait on, or cancel it"
            )
        log.info("batch %s: %s, %s", batch.id, batch.status, counts)
        self._pending.append(batch.id)

    def _try_again(self, job: Job, batch: "Batch") -> None:
        """A batch was refused as a whole: if the account's queue was full, wait and submit it again."""
        errors = (batch.errors.data if batch.errors else None) or []
        said = "; ".join(told(error.message or error.code, "") for error in errors[:3]) or "it gave no reason"
        if not any(error.code == QUEUE_FULL for error in errors):
            raise self._ended(job, DeniedServiceError(f"openai refused the batch {batch.id}: {said}. Then run again"))
        if time.time() - job.since > LONGEST_SECONDS:
            message = f"openai's queue was full for {LONGEST_SECONDS // 3600} hours: {said}. Ask for a higher limit"
            raise self._ended(job, BusyServiceError(f"{message}, or set embedding.openai.mode to sync"))
        wait_seconds = QUEUE_POLLS * self._settings.embedding.openai.batch_poll_seconds
        seconds = (batch.failed_at or batch.created_at) + wait_seconds - time.time()
        if seconds > 0:
            log.info("openai's queue is full: %s. Again in %.0f s", said, seconds)
            self._wait_seconds = max(self._wait_seconds, seconds)
            return
        again = self._service.create(job.name, self._settings.collection, batch.input_file_id)
        self._batches[job.name] = again.id
        self._pending.append(again.id)

    def _collect(self, job: Job, batch: "Batch", wanted: frozenset[str] | set[str]) -> None:
        """Keep what an ended batch brought; what it did not finish stays missing."""
        refused, faults, unfinished = dict[str, str](), list[str](), set[str]()
        for result in self._service.results(batch.error_file_id):
            if result.reason:
                refused[result.key] = result.reason
            elif result.fault:
                faults.append(result.fault)
            else:
                unfinished.add(result.key)
        if wanted - refused.keys() - unfinished:
            self._keep_vectors(job, batch, refused, faults)
        self._reasons |= {key: reason for key, reason in refused.items() if key in wanted}
        self._missing -= refused.keys()
        counts = f"{_done(batch):,} of {len(job.keys):,} texts"
        log.info("batch %s: %s, %s, %d refused", batch.id, batch.status, counts, len(refused))
        if faults:
            raise self._ended(job, DeniedServiceError(f"openai's batch {batch.id}: {faults[0]}"))
        if batch.status == "cancelled":
            message = f"openai's batch {batch.id} was cancelled after {counts}, which are kept"
            raise self._ended(job, DeniedServiceError(f"{message}: run again to submit the others"))
        if wanted <= self._missing and not _done(batch):
            message = f"openai's batch {batch.id} is {batch.status} with {counts} done"
            raise self._ended(job, BusyServiceError(f"{message}: run again to submit them anew"))

    def _keep_vectors(self, job: Job, batch: "Batch", refused: dict[str, str], faults: list[str]) -> None:
        """Put the vectors that are missing into the cache, some thousand at a time.

        Of a job of ours all are kept: they are paid for, and once it is forgotten, others look for them there.
        """
        kept, tokens, owned = dict[str, np.ndarray](), 0, self._owns(job)
        for result in self._service.results(batch.output_file_id):
            tokens += result.tokens
            if result.reason:
                refused[result.key] = result.reason
            elif result.fault:
                faults.append(result.fault)
            elif result.vector is not None and self._is_to_be_kept(result.key, owned):
                kept[result.key] = result.vector
            if len(kept) == KEPT_AT_ONCE:
                self._keep(kept)
                kept = {}
        self._keep(kept)
        if owned:  # else another shard may be done with it, and have forgotten it
            self._touched[job.name] = self.jobs.written(replace(job, tokens=tokens))
            if self._spending:
                self._spending.note_batch(job.name, tokens)

    def _is_to_be_kept(self, key: str, owned: bool) -> bool:
        return key in self._missing or (owned and key not in self.texts)

    def _keep(self, vectors: dict[str, np.ndarray]) -> None:
        if vectors:
            self._cache.add_digests([bytes.fromhex(key) for key in vectors], np.stack(list(vectors.values())))
            self._missing -= vectors.keys()


def _done(batch: "Batch") -> int:
    return batch.request_counts.completed if batch.request_counts else 0


def _texts(settings: Settings, graph: Graph, shard: Shard) -> tuple[dict[str, str], dict[str, int]]:
    """Digest -> text, and digest -> its tokens as the tokenizer counts them."""
    texts, tokens = dict[str, str](), dict[str, int]()
    for passages in staging.read_batches(shard.path, settings.ingest.batch_passages):
        filled: list[str] = graph.value("embedding_texts", passages=passages)
        keys = [key_of(text) for text in filled]
        texts |= dict(zip(keys, filled, strict=True))
        tokens |= dict(zip(keys, passages["tokens"].to_pylist(), strict=True))
    return texts, tokens
