"""Run alerts: what is called when a run of an ingest DAG has failed, or has missed its deadline.

The Airflow Variable `failure_alert` names the callable, e.g. `run_alerts.post`, or a notifier in a module of yours. It
is called with a context: of a failed run with `reason`, of a missed deadline with `deadline`. Without the Variable, the
alert is only logged. The triggerer and the dag-processor import this file by its stem, and make the calls.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping
from copy import copy
from importlib import import_module
from typing import Any

from airflow.plugins_manager import AirflowPlugin
from airflow.sdk.definitions.deadline import BaseDeadlineReference

log = logging.getLogger(__name__)

VARIABLE = "failure_alert"
CONNECTION = "run_alerts"

AlertContext = Mapping[str, Any]
"""Airflow's context of a callback."""


def failed(context: AlertContext) -> None:
    """A run has failed: the DAG's `on_failure_callback`."""
    log.error("%s", text(context))
    call_named(VARIABLE, context)


async def missed(context: AlertContext) -> None:
    """A run has missed its deadline: the callback of the DAG's DeadlineAlert."""
    log.error("%s", text(context))
    await asyncio.to_thread(call_named, VARIABLE, context)


def text(context: AlertContext) -> str:
    """The alert as a sentence."""
    dag_id = _of_run(context, "dag_id") or getattr(context.get("dag"), "dag_id", None)
    run_id = _of_run(context, "dag_run_id") or _of_run(context, "run_id") or context.get("run_id")
    if deadline := context.get("deadline"):
        return f"{dag_id}: {run_id} is not done by its deadline, {deadline['deadline_time']}"
    return f"{dag_id}: {run_id} has failed: {context.get('reason')}"


def post(context: AlertContext) -> None:
    """Post `{"text": ...}` to a webhook, whose address is the password of the Connection `run_alerts`."""
    from budget_alerts import send

    send(CONNECTION, text(context))


def call_named(variable: str, context: AlertContext) -> None:
    """Call what an Airflow Variable names, if it is set, as Airflow calls callbacks."""
    from airflow.sdk import Variable

    if path := Variable.get(variable, default=None):
        module, _, name = path.strip().rpartition(".")
        callback = copy(getattr(import_module(module), name))  # a notifier renders its templates only once
        callback({**context})


def _of_run(context: AlertContext, name: str) -> Any:
    """A field of the context's run: a dict in the triggerer, an object elsewhere."""
    run = context.get("dag_run")
    return run.get(name) if isinstance(run, dict) else getattr(run, name, None)


class SinceQueued(BaseDeadlineReference):
    """Deadlines count from when a run was first queued.

    Airflow's own DAGRUN_QUEUED_AT does the same, but Airflow 3.3 cannot clear any task of a run with such a deadline:
    it computes the deadline again, and cannot read the interval that it has stored.
    """

    required_kwargs = frozenset({"dag_id", "run_id"})

    def _evaluate_with(self, *, session: Any, dag_id: str, run_id: str) -> Any:
        from airflow.models import DagRun
        from sqlalchemy import select

        return session.scalar(select(DagRun.queued_at).filter_by(dag_id=dag_id, run_id=run_id))


class RunAlerts(AirflowPlugin):
    """Airflow takes deadline references only from plugins."""

    name = "run_alerts"
    deadline_references = [SinceQueued]  # noqa: RUF012 (Airflow's own way)
