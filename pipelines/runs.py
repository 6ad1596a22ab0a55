"""Runs: all steps of an ingest, one after the other, in this process."""

import os
from datetime import UTC, datetime
from typing import Any

from pipelines import ingesting, outcomes, staging, steps
from pipelines.embeddings import openai_batch
from pipelines.report import run_report
from pipelines.settings import Settings


def ingest(settings: Settings) -> dict[str, Any]:
    """Plan, embed, write, index, evaluate and promote; the report of it all (`report.run_report`)."""
    run_id = f"cli_{datetime.now(UTC):%Y%m%dT%H%M%S%f}_{os.getpid()}"
    plan = steps.plan(settings, run_id)
    try:
        batched = openai_batch.waited(settings, plan.shards)
        shards = (ingesting.ingest_shard(settings, plan, shard, None, batched.get(shard.number)) for shard in plan.shards)
        ingested = sum(shards, outcomes.Ingested())
        finished = steps.finish(settings, plan, ingested.quarantined)
        evaluation = steps.evaluate(settings, plan)
        promotion = steps.promote(settings, plan, evaluation)
    finally:
        staging.remove(plan.folder)  # nobody comes back to it: the next run plans anew
    return run_report(plan, ingested, finished, evaluation, promotion)
