"""OpenAI at half price: a shard's texts are embedded by the Batch API, within a day, and their vectors cached.

`openai_batch_work.advanced` may be called at any time, in any process: it finds the batches that were submitted
before, takes what they brought, submits what is in none, and says what is still to be waited for. Waiting is left
to the caller: the command line sleeps (`waited`), the DAG defers. When nothing is pending, the ordinary ingest
finds the vectors in the cache (`Batched.vectors`).
"""

import logging
import time
from typing import TYPE_CHECKING

from squadron.dataflow.driver import shared_graph
from squadron.dataflow.vector_space import embedding_space
from squadron.embeddings.openai_batch.batched import Batched
from squadron.embeddings.openai_batch.jobs import Jobs
from squadron.embeddings.remote.failures import BusyServiceError
from squadron.errors import SettingsError
from squadron.runs.budget import Alert, Spending, Usage
from squadron.runs.results import Plan
from squadron.settings.schema import Settings
from squadron.staging.shards import Shard

if TYPE_CHECKING:
    from squadron.embeddings.openai_batch.service import BatchService

log = logging.getLogger(__name__)

PENDING = ("validating", "in_progress", "finalizing", "cancelling")
"""What a batch is while it is to be waited for."""
LONGEST_SECONDS = 26 * 3600
"""How long a job may take: the service's day, and some slack."""


def is_wanted(settings: Settings) -> bool:
    """Whether the settings say that passages are embedded in batches."""
    return settings.embedding.service == "openai" and settings.embedding.openai.mode == "batch"


def waited(settings: Settings, shards: list[Shard], plan: Plan | None = None) -> dict[int, Batched]:
    """Every shard's texts, embedded in batches, by its number: all are submitted before the first is waited for.

    With a budget, which the plan's run keeps to, the first that is submitted is waited for alone: what it was billed
    tells what the others will be. Nothing where batches are not wanted. See `openai_batch_work.advanced` for what it
    raises.
    """
    if not is_wanted(settings):
        return {}
    from squadron.embeddings.openai_batch.work import advanced

    batches: dict[str, str] = {}
    spending = {shard.number: spent_by(settings, plan, shard) for shard in shards}
    done: dict[int, Batched] = {}

    def advance(shard: Shard) -> bool:
        done[shard.number] = advanced(settings, shard, batches, spending[shard.number])
        return done[shard.number].ready

    for shard in shards:
        own = spending[shard.number]
        while not advance(shard) and own and own.is_limited and not own.knows_a_batch:
            _sleep_until_ended(settings, done[shard.number])
    for shard in shards:
        while not done[shard.number].ready:
            _sleep_until_ended(settings, done[shard.number])
            advance(shard)
    return done


def spent_by(settings: Settings, plan: Plan | None, shard: Shard, alert: Alert | None = None) -> Spending | None:
    """What the batches of a shard spend of the run's budget; None where nothing is known of a run."""
    return Spending(settings, plan, shard, Usage, alert) if plan else None


def forget(settings: Settings, batched: Batched | None) -> None:
    """A shard's vectors are in the store: its jobs need not be remembered any more."""
    if batched and batched.jobs:
        jobs = open_jobs(settings)
        for name in batched.jobs:
            jobs.close(name)


def open_jobs(settings: Settings) -> Jobs:
    """The jobs of the configured vector space."""
    if settings.cache.path is None:
        raise SettingsError("embedding.openai.mode is 'batch', whose vectors wait in the cache: set cache.path")
    return Jobs(settings.cache.path, embedding_space(settings, shared_graph(settings)))


def service_of(settings: Settings) -> "BatchService":
    """The service, with the key that the environment holds."""
    from squadron.embeddings.openai_batch.service import BatchService

    return BatchService(settings.embedding.openai, shared_graph(settings).kept("dimension"))


def _sleep_until_ended(settings: Settings, batched: Batched) -> None:
    poll_seconds, service = settings.embedding.openai.batch_poll_seconds, service_of(settings)
    time.sleep(batched.wait_seconds)
    deadline = time.monotonic() + LONGEST_SECONDS
    while batched.pending and time.monotonic() < deadline:
        time.sleep(poll_seconds)
        try:
            if not any(service.is_pending(batch_id) for batch_id in batched.pending):
                return
        except BusyServiceError as busy:
            log.warning("%s: asked again in %g s", busy, poll_seconds)
