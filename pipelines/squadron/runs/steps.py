"""Steps: a plan, its shards, finish, evaluate and promote, one after the other in this process."""

from collections.abc import Callable
from dataclasses import dataclass

from squadron.generations.catalog import Generations
from squadron.generations.live_pointer import Promotion
from squadron.runs.batched_shard import batched_shards
from squadron.runs.evaluate import evaluate
from squadron.runs.finish import finish
from squadron.runs.ingest_shard import ingest_shard
from squadron.runs.plan import plan_run
from squadron.runs.results import Evaluation, Finished, Ingested, Plan
from squadron.settings.schema import Settings
from squadron.staging import shards as staging


@dataclass(frozen=True)
class StepResults:
    """What each step returned; of the shards, all together."""

    plan: Plan
    ingested: Ingested
    finished: Finished
    evaluation: Evaluation
    promotion: Promotion


def run_steps(
    settings: Settings, run_id: str, promote: Callable[[Settings, Plan, Evaluation, Generations], Promotion]
) -> StepResults:
    """All steps; `promote` is the last one."""
    generations = Generations.of(settings)
    plan = plan_run(settings, run_id, generations=generations)
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
        promotion = promote(settings, plan, evaluation, generations)
    finally:
        staging.remove(plan.folder)  # nobody comes back to it: the next run plans anew
    return StepResults(plan, ingested, finished, evaluation, promotion)
