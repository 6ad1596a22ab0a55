"""Run alerts: what is called when a run of an ingest DAG has failed, or is not done by its deadline.

The Airflow Variable `failure_alert` names the callable, e.g. `run_alerts.post`, or a notifier in a module of yours. It
is called with a context: of a failed run with `reason`, of a missed deadline with `deadline`. Where no Variable names
one, the log alone says it. The triggerer imports this file by its stem, and so does the dag-processor: these two call.
"""

from __future__ import annotations

import asyncio
import logging
from copy import copy
from importlib import import_module
from typing import Any

from airflow.plugins_manager import AirflowPlugin
from airflow.sdk.definitions.deadline import BaseDeadlineReference

log = logging.getLogger(__name__)

VARIABLE = "failure_alert"
CONNECTION = "run_alerts"


def failed(context: Any) -> None:
    """A run has failed: the DAG's `on_failure_callback`."""
    log.error("%s", text(context))
    call_named(VARIABLE, {**context})


async def missed(context: Any) -> None:
    """A run is not done by its deadline: the callback of the DAG's DeadlineAlert."""
    log.error("%s", text(context))
    await asyncio.to_thread(call_named, VARIABLE, {**context})


def text(context: Any) -> str:
    """The alert as a sentence."""
    run = context.get("dag_run") or {}
    found = run.get if isinstance(run, dict) else lambda name: getattr(run, name, None)
    dag_id = found("dag_id") or getattr(context.get("dag"), "dag_id", None)
    run_id = found("dag_run_id") or found("run_id") or context.get("run_id")
    if deadline := context.get("deadline"):
        return f"{dag_id}: {run_id} is not done by its deadline, {deadline['deadline_time']}"
    return f"{dag_id}: {run_id} has failed: {context.get('reason')}"


def post(context: Any) -> None:
    """Post `{"text": ...}` to a webhook, whose address is the password of the Connection `run_alerts`."""
    from budget_alerts import send

    send(CONNECTION, text(context))


def call_named(variable: str, context: dict[str, Any]) -> None:
    """Call what an Airflow Variable names, if there is one, as callbacks of tasks are called."""
    from airflow.sdk import Variable

    if path := Variable.get(variable, default=None):
        module, _, name = path.strip().rpartition(".")
        copy(getattr(import_module(module), name))(context)  # a notifier fills its templates in, once


class SinceQueued(BaseDeadlineReference):
    """Deadlines count from when a run was queued first.

    Airflow's own DAGRUN_QUEUED_AT would do, but of a run with such a deadline Airflow 3.3 cannot clear any task: it
    reckons the deadline anew, and stumbles over how it has stored the interval.
    """

    required_kwargs = frozenset({"dag_id", "run_id"})

    def _evaluate_with(self, *, session: Any, dag_id: str, run_id: str) -> Any:
        from airflow.models import DagRun
        from sqlalchemy import select

        return session.scalar(select(DagRun.queued_at).filter_by(dag_id=dag_id, run_id=run_id))


class RunAlerts(AirflowPlugin):
    """Airflow takes deadlines of a kind of its own from plugins alone."""

    name = "run_alerts"
    deadline_references = [SinceQueued]  # noqa: RUF012 (Airflow's own way)
