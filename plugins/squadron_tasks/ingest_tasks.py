"""Tasks of the ingest DAG: each calls one step of `squadron.runs`, and hands its outcome to the next by XCom."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from airflow.sdk import get_current_context, task
from airflow.sdk.definitions.context import context_merge

from squadron_tasks.alerts import budget_alert
from squadron_tasks.asset_events import announce_change, index_alias
from squadron_tasks.lineage import lineage_task, record_build, record_promotion
from squadron_tasks.metrics import send
from squadron_tasks.openai_batches import batched_shard
from squadron_tasks.payloads import JsonObject, payload_of, read_payload, read_plan, sum_of_shards
from squadron_tasks.resumable_task import resumable_task
from squadron_tasks.settings import embedding_pool, read_settings, resolve_settings, run_params
from squadron_tasks.shard_limit import check_shard_count

if TYPE_CHECKING:
    from squadron.runs.report import RunReport

log = logging.getLogger("squadron.dag")


@task
def resolve(collection: str) -> str:
    """Read `config/`, Airflow Variables and run params, once for the whole run."""
    resolved = resolve_settings(collection, run_params())
    log.info("settings of this run:\n%s", "\n".join(resolved.lines()))
    # The shards of this run use this pool (plugins/embedding_pools.py), whatever config/ says.
    get_current_context()["ti"].xcom_push(key="pool", value=embedding_pool(resolved.settings))
    return resolved.settings.model_dump_json()


@task
def plan(settings: str) -> list[JsonObject]:
    """Compare the corpus with the store, and return the shards of work. The plan itself is the XCom `plan`."""
    from squadron.runs.plan import plan_run

    context = get_current_context()
    run_plan = plan_run(read_settings(settings), context["run_id"])
    check_shard_count(run_plan)
    context["ti"].xcom_push(key="plan", value=payload_of(replace(run_plan, shards=[])))
    send(run_plan.collection, "plan", run_plan)
    return [payload_of(shard) for shard in run_plan.shards]


@resumable_task(map_index_template="{{ shard_name }}", multiple_outputs=False)
def ingest(settings: str, plan: JsonObject, shard: JsonObject) -> JsonObject:
    """Embed the passages of one shard and write them."""
    from squadron.runs.ingest_shard import ingest_shard
    from squadron.staging.shards import Shard

    run_settings, run_plan, run_shard = read_settings(settings), read_plan(plan), read_payload(Shard, shard)
    context_merge(get_current_context(), shard_name=f"shard {run_shard.number + 1}: {run_shard.passages:,} passages")
    batched = batched_shard(run_settings, run_plan, run_shard)
    ingested = ingest_shard(run_settings, run_plan, run_shard, budget_alert, batched)
    send(run_plan.collection, "ingest", ingested)
    return payload_of(ingested)


@lineage_task(trigger_rule="none_failed", multiple_outputs=False)
def finish(settings: str, plan: JsonObject, ingested: Sequence[JsonObject] | None) -> JsonObject:
    """Delete what left the corpus, build the index, count the rows."""
    from squadron.runs.finish import finish

    run_settings, run_plan = read_settings(settings), read_plan(plan)
    finished = finish(run_settings, run_plan, sum_of_shards(ingested).quarantined)
    record_build(run_settings, run_plan, finished)
    send(run_plan.collection, "finish", finished)
    return payload_of(finished)


@task(multiple_outputs=False)
def evaluate(settings: str, plan: JsonObject) -> JsonObject:
    """Ask the generation the corpus's own questions."""
    from squadron.runs.evaluate import evaluate

    run_plan = read_plan(plan)
    evaluation = evaluate(read_settings(settings), run_plan)
    send(run_plan.collection, "evaluate", evaluation)
    return payload_of(evaluation)


@lineage_task(trigger_rule="none_failed", multiple_outputs=False)
def promote(
    collection: str,
    settings: str,
    plan: JsonObject,
    ingested: Sequence[JsonObject] | None,
    finished: JsonObject,
    evaluation: JsonObject,
) -> RunReport:
    """Make the generation live if it is good enough, and return the report of the run."""
    from squadron.runs.live_sync import promote_in_step
    from squadron.runs.report import run_report
    from squadron.runs.results import Evaluation, Finished

    run_settings, run_plan = read_settings(settings), read_plan(plan)
    run_finished, run_evaluation = read_payload(Finished, finished), read_payload(Evaluation, evaluation)
    promotion = promote_in_step(run_settings, run_plan, run_evaluation)
    report = run_report(run_plan, sum_of_shards(ingested), run_finished, run_evaluation, promotion)
    announce_change(run_settings, report, index_alias(collection))
    record_promotion(run_settings, report)
    send(run_plan.collection, "promote", promotion)
    return report
