"""OpenAI's batches: a shard waits for them in the triggerer, and holds no worker meanwhile."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING

from airflow.sdk import get_current_context
from airflow.sdk.exceptions import TaskDeferred

from squadron_tasks.alerts import budget_alert
from squadron_tasks.payloads import read_payload

if TYPE_CHECKING:
    from squadron.embeddings.openai_batch.batched import Batched
    from squadron.runs.results import Plan
    from squadron.settings.schema import Settings
    from squadron.staging.shards import Shard

STATE_KEY = "batches"
"""Of the task's state, which survives retries: job -> batch."""


def batched_shard(settings: Settings, plan: Plan, shard: Shard) -> Batched | None:
    """What became of a shard in OpenAI's batches; None where the settings want no batches.

    Raises TaskDeferred while a batch is under way.
    """
    if not settings.embedding.in_batches:
        return None
    from squadron.generations.catalog import Generations
    from squadron.runs import batched_shard as batch_mode

    Generations.of(settings).planned(plan.generation, plan.run_id)  # an outdated plan submits nothing
    state = get_current_context()["task_state_store"]
    batches = read_payload(dict[str, str], state.get(STATE_KEY, {}))
    try:
        spending = batch_mode.batch_spending(settings, plan, shard, budget_alert)
        batched = batch_mode.batched_shard(settings, shard, batches, spending)
    finally:
        state.set(STATE_KEY, dict(batches))
    if not batched.ready:
        raise _deferral(settings, batched)
    return batched


def _deferral(settings: Settings, batched: Batched) -> TaskDeferred:
    from openai_batch_wait import BatchesEnded  # of plugins/
    from squadron.runs.batched_shard import LONGEST_SECONDS

    service = settings.embedding.openai
    trigger = BatchesEnded(
        service.base_url, list(batched.pending), batched.wait_seconds, service.batch_poll_seconds, LONGEST_SECONDS
    )
    return TaskDeferred(trigger=trigger, method_name="resume", timeout=timedelta(seconds=LONGEST_SECONDS + 3600))
