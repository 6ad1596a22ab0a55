"""Runs: all steps of an ingest, one after the other, in this process."""

from typing import Any

from pipelines import ingesting, leftovers, outcomes, planning, staging, steps
from pipelines.embeddings import openai_batch
from pipelines.locking import only_run
from pipelines.report import run_report
from pipelines.settings import Settings


def ingest(settings: Settings) -> dict[str, Any]:
    """Plan, embed, write, index, evaluate and promote; the report of it all (`report.run_report`).

    Raises StoreError, with nothing done, while another process of this machine ingests into the collection.
    """
    with only_run(settings):
        return _ingested(settings)


def _ingested(settings: Settings) -> dict[str, Any]:
    plan = planning.plan(settings, leftovers.process_run_id())
    try:
        batched = openai_batch.waited(settings, plan.shards, plan)
        ingested = sum(
            (ingesting.ingest_shard(settings, plan, shard, None, batched.get(shard.number)) for shard in plan.shards),
            outcomes.Ingested(),
        )
        finished = steps.finish(settings, plan, ingested.quarantined)
        evaluation = steps.evaluate(settings, plan)
        promotion = steps.promote(settings, plan, evaluation)
    finally:
        staging.remove(plan.folder)  # nobody comes back to it: the next run plans anew
    return run_report(plan, ingested, finished, evaluation, promotion)
