"""Runs: all steps of an ingest, one after the other, in this process."""

from squadron.generations.catalog import Generations
from squadron.runs.batched_shard import batched_shards
from squadron.runs.collection_lock import only_run
from squadron.runs.evaluate import evaluate
from squadron.runs.finish import finish
from squadron.runs.ingest_shard import ingest_shard
from squadron.runs.live_sync import promote_in_step
from squadron.runs.plan import plan_run
from squadron.runs.report import RunReport, run_report
from squadron.runs.results import Ingested
from squadron.settings.schema import Settings
from squadron.staging import abandoned as leftovers
from squadron.staging import shards as staging


def ingest(settings: Settings) -> RunReport:
    """Plan, embed, write, index, evaluate and promote; the report of it all (`report.run_report`).

    Raises StoreError, with nothing done, while another process of this machine ingests into the collection.
    """
    with only_run(settings):
        return _ingested(settings)


def _ingested(settings: Settings) -> RunReport:
    generations = Generations.of(settings)
    plan = plan_run(settings, leftovers.process_run_id(), generations=generations)
    try:
        batched = batched_shards(settings, plan.shards, plan)
        ingested = sum(
            (
                ingest_shard(settings, plan, shard, None, batched.get(shard.number), generations)
                for shard in plan.shards
            ),
            Ingested(),
        )
        generations.read()  # another machine may have planned since
        finished = finish(settings, plan, ingested.quarantined, generations)
        evaluation = evaluate(settings, plan, generations)
        promotion = promote_in_step(settings, plan, evaluation, generations)
    finally:
        staging.remove(plan.folder)  # nobody comes back to it: the next run plans anew
    return run_report(plan, ingested, finished, evaluation, promotion)
