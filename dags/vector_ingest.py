"""Keeps a vector index in step with a corpus: resolve, plan, ingest, finish, evaluate, promote."""

from __future__ import annotations

import logging
from dataclasses import asdict, replace
from datetime import timedelta
from functools import partial
from typing import Any

from airflow.providers.standard.decorators.python import _PythonDecoratedOperator
from airflow.providers.standard.exceptions import HITLRejectException
from airflow.providers.standard.operators.hitl import ApprovalOperator
from airflow.sdk import (
    DAG,
    Asset,
    AssetAlias,
    AsyncCallback,
    DeadlineAlert,
    Param,
    get_current_context,
    task,
)
from airflow.sdk.bases.decorator import task_decorator_factory
from airflow.sdk.exceptions import TaskDeferred

from run_alerts import SinceQueued, call_named, failed  # of plugins/
from squadron.airflow_support.lineage import collection_uri
from squadron.airflow_support.trigger_form import form_fields
from squadron.settings.layers import DEFAULT_COLLECTION
from squadron.settings.schema import Settings
from squadron_tasks.lineage import lineage_task, record_build, record_promotion
from squadron_tasks.metrics import send, send_queue_depth, send_shards_left
from squadron_tasks.retries import RETRY_POLICY
from squadron_tasks.settings import (
    given_params,
    pool_of,
    prepared,
    refuse_many_shards,
    resolved_settings,
    scheduled,
    sound_collections,
)

log = logging.getLogger("squadron.dag")


class ResumableTask(_PythonDecoratedOperator):
    """A `@task` whose function may defer; then it is called again from its beginning, and finds what it has done."""

    def resume(self, context: Any, event: Any = None) -> Any:
        """What the task does when its trigger has fired."""
        return self.execute(context)


class Approval(ApprovalOperator):
    """Asks a person, where `gate.approval` wants one."""

    def execute(self, context: Any) -> Any:
        settings = Settings.model_validate_json(context["ti"].xcom_pull(task_ids="resolve"))
        return super().execute(context) if settings.gate.approval else None

    def execute_complete(self, context: Any, event: dict[str, Any]) -> Any:
        """The answer. What was changed in place is live already: a person who rejects it has it taken back."""
        try:
            return super().execute_complete(context, event)
        except HITLRejectException as rejection:
            from squadron.runs.promote import withdraw
            from squadron.runs.results import Plan

            pull = context["ti"].xcom_pull
            settings, plan = pull(task_ids="resolve"), Plan(**pull(task_ids="plan", key="plan"))
            raise HITLRejectException(f"{rejection}: {withdraw(prepared(settings), plan)}") from None


resumable_task = partial(task_decorator_factory, decorated_operator_class=ResumableTask)


DEFAULTS = {
    "owner": "squadron",
    "retries": 2,
    "retry_delay": timedelta(seconds=30),
    "retry_exponential_backoff": 2.0,
    "max_retry_delay": timedelta(minutes=15),
    "retry_policy": RETRY_POLICY,
    "execution_timeout": timedelta(hours=12),
}


def ingest_dag(collection: str, config: Settings) -> DAG:
    """The DAG of a collection: thin tasks around `squadron.runs.steps`. `config`: its settings, but for Variables."""
    with DAG(
        dag_id="vector_ingest" if collection == DEFAULT_COLLECTION else f"vector_ingest_{collection}",
        description="Load a corpus, embed what changed, write it to the vector store, measure it, make it live.",
        doc_md=__doc__,
        schedule=scheduled(config.schedule),
        deadline=_deadline(config),
        on_failure_callback=failed,
        catchup=False,
        max_active_runs=1,
        tags=["squadron", "embeddings", "vector store"],
        params={key: Param(None, **field) for key, field in form_fields(config).items()},
        default_args=DEFAULTS,
    ) as made:
        _tasks(collection, pool_of(config))
    return made


def _deadline(config: Settings) -> DeadlineAlert | None:
    """The triggerer says so when a run is not done in time."""
    if config.deadline_hours is None:
        return None
    interval, told = timedelta(hours=config.deadline_hours), AsyncCallback("run_alerts.missed")  # of plugins/
    return DeadlineAlert(SinceQueued(), interval, told, name="done in time")


def _tasks(collection: str, pool: str) -> None:
    @task(task_id="resolve")
    def resolve_settings() -> str:
        """`config/` < Airflow Variables < run params, once for the whole run."""
        resolved = resolved_settings(collection, given_params())
        log.info("settings of this run:\n%s", "\n".join(resolved.lines()))
        # The shards of this run take this pool (plugins/embedding_pools.py), whatever config/ says.
        get_current_context()["ti"].xcom_push(key="pool", value=pool_of(resolved.settings))
        return resolved.settings.model_dump_json()

    @task
    def plan(settings: str) -> list[dict[str, Any]]:
        """Compare the corpus with the store; the shards of work. The plan itself is the XCom `plan`."""
        from squadron.runs.plan import plan_run

        context = get_current_context()
        made = plan_run(prepared(settings), context["run_id"])
        refuse_many_shards(made)
        context["ti"].xcom_push(key="plan", value=asdict(replace(made, shards=[])))
        send(made.collection, "plan", vars(made))
        send_queue_depth(made.collection, len(made.shards))
        return [asdict(shard) for shard in made.shards]

    @resumable_task(map_index_template="{{ shard_name }}", multiple_outputs=False, pool=pool)
    def ingest(settings: str, plan: dict[str, Any], shard: dict[str, Any]) -> dict[str, Any]:
        """Embed the passages of one shard and write them."""
        from squadron.runs.ingest_shard import ingest_shard
        from squadron.runs.results import Plan
        from squadron.staging import shards as staging

        context: Any = get_current_context()
        context["shard_name"] = f"shard {shard['number'] + 1}: {shard['passages']:,} passages"
        made, piece, known = Plan(**plan), staging.Shard(**shard), prepared(settings)
        done = ingest_shard(known, made, piece, _budget_alert, _batched(known, made, piece))
        send(made.collection, "ingest", vars(done))
        send_shards_left(made.collection)
        return asdict(done)

    @lineage_task(trigger_rule="none_failed", multiple_outputs=False)
    def finish(settings: str, plan: dict[str, Any], ingested: list[dict[str, Any]] | None) -> dict[str, Any]:
        """Delete what left the corpus, build the index, count the rows."""
        from squadron.runs.finish import finish
        from squadron.runs.results import Plan

        refused = sum(shard["quarantined"] for shard in (ingested or [])[:])
        known, made = prepared(settings), Plan(**plan)
        done = finish(known, made, refused)
        record_build(known, made, done)
        send(made.collection, "finish", vars(done))
        send_queue_depth(made.collection, 0)
        return asdict(done)

    @task(multiple_outputs=False)
    def evaluate(settings: str, plan: dict[str, Any]) -> dict[str, Any]:
        """Ask the generation the corpus's own questions."""
        from squadron.runs.evaluate import evaluate
        from squadron.runs.results import Plan

        found = evaluate(prepared(settings), Plan(**plan))
        send(plan["collection"], "evaluate", vars(found))
        return asdict(found)

    @lineage_task(
        trigger_rule="none_failed", multiple_outputs=False, outlets=[AssetAlias(f"vector_index_{collection}")]
    )
    def promote(
        settings: str,
        plan: dict[str, Any],
        ingested: list[dict[str, Any]] | None,
        finished: dict[str, Any],
        evaluation: dict[str, Any],
    ) -> dict[str, Any]:
        """Make the generation live if it is good enough; the report of the run."""
        from squadron.runs import report
        from squadron.runs.results import Evaluation, Finished, Ingested, Plan

        made, measured = Plan(**plan), Evaluation(**evaluation)
        known = prepared(settings)
        promotion = promote(known, made, measured)
        shards = sum((Ingested(**shard) for shard in (ingested or [])[:]), Ingested())
        done = report.run_report(made, shards, Finished(**finished), measured, promotion)
        _tell_of_changes(done, get_current_context(), AssetAlias(f"vector_index_{collection}"))
        record_promotion(known, done)
        send(made.collection, "promote", vars(promotion))
        return done

    settings = resolve_settings()
    shards = plan(settings)
    planned = shards["plan"]
    ingested = ingest.partial(settings=settings, plan=planned).expand(shard=shards)
    finished = finish(settings, planned, ingested)
    evaluation = evaluate(settings, planned)
    approval = Approval(
        task_id="approve",
        doc_md=Approval.__doc__,
        subject="Make {{ ti.xcom_pull(task_ids='plan', key='plan')['generation'] }} live?",
        body="{{ ti.xcom_pull(task_ids='evaluate')['metrics'] }} on "
        "{{ ti.xcom_pull(task_ids='evaluate')['questions'] }} {{ ti.xcom_pull(task_ids='evaluate')['asked'] }}; "
        "live before: {{ ti.xcom_pull(task_ids='evaluate')['live_metrics'] }}",
        fail_on_reject=True,
        execution_timeout=None,
    )
    finished >> evaluation >> approval >> promote(settings, planned, ingested, finished, evaluation)


def _tell_of_changes(report: dict[str, Any], context: Any, alias: AssetAlias) -> None:
    """An event of the alias where readers see something new, so that other DAGs can be scheduled on it."""
    counts = report["counts"]
    if report["live"] != report["generation"] or not (report["promoted"] or counts["written"] or counts["deleted"]):
        return
    store = Settings.model_validate_json(context["ti"].xcom_pull(task_ids="resolve")).store.name
    index = Asset(name=f"{report['collection']} in {store}", uri=collection_uri(store, report["collection"]))
    facts = {name: report[name] for name in ("run_id", "generation", "metrics", "vector_space", "cost")}
    context["outlet_events"][alias].add(index, extra=facts | {"rows": report["rows"]})


def _budget_alert(facts: dict[str, Any]) -> None:
    """Call what the Variable `budget_alert` names, as callbacks of tasks are called; `context["budget"]` has the facts.

    A callback that fails is logged, as Airflow does: what is paid for is to be ingested all the same.
    """
    try:
        call_named("budget_alert", {**get_current_context(), "budget": facts})
    except Exception:
        log.exception("the callback that Variable 'budget_alert' names failed")


def _batched(settings: Settings, plan: Any, shard: Any) -> Any:
    """What became of a shard in OpenAI's batches, where these are wanted; until it is known, the task is deferred.

    The batches are remembered in the task's state, which a retry finds.
    """
    if not settings.embedding.in_batches:
        return None
    from openai_batch_wait import BatchesEnded  # of plugins/
    from squadron.dataflow.driver import shared_graph
    from squadron.generations.catalog import planned_generation
    from squadron.runs.batched_shard import LONGEST_SECONDS, batch_spending, batched_shard

    # Before anything is submitted: is this plan out of date?
    planned_generation(shared_graph(settings), plan.generation, plan.run_id)
    state = get_current_context()["task_state_store"]
    batches = dict(state.get("batches", {}))
    try:
        batched = batched_shard(settings, shard, batches, batch_spending(settings, plan, shard, _budget_alert))
    finally:
        state.set("batches", batches)
    if batched.ready:
        return batched
    chosen, limit = settings.embedding.openai, LONGEST_SECONDS
    waiting = BatchesEnded(
        chosen.base_url, list(batched.pending), batched.wait_seconds, chosen.batch_poll_seconds, limit
    )
    raise TaskDeferred(trigger=waiting, method_name="resume", timeout=timedelta(seconds=limit + 3600))


for name, configured in sound_collections().items():  # config_errors.py tells of the others
    globals()[f"{name}_dag"] = ingest_dag(name, configured)
