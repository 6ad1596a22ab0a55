"""Approval: the task that waits for a person before a generation goes live."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from airflow.providers.standard.exceptions import HITLRejectException
from airflow.providers.standard.operators.hitl import ApprovalOperator

from squadron.settings.schema import Settings
from squadron_tasks.payloads import read_plan
from squadron_tasks.settings import read_settings

if TYPE_CHECKING:
    from airflow.sdk import Context


class Approval(ApprovalOperator):
    """Asks a person, where `gate.approval` says so."""

    def execute(self, context: Context) -> Any:
        settings = Settings.model_validate_json(context["ti"].xcom_pull(task_ids="resolve"))
        return super().execute(context) if settings.gate.approval else None

    def execute_complete(self, context: Context, event: dict[str, Any]) -> Any:
        """Take the answer. A rejection also undoes what the run has changed in the live generation."""
        try:
            return super().execute_complete(context, event)
        except HITLRejectException as rejection:
            from squadron.runs.live_sync import withdraw_in_step

            pull = context["ti"].xcom_pull
            settings = read_settings(pull(task_ids="resolve"))
            plan = read_plan(pull(task_ids="plan", key="plan"))
            raise HITLRejectException(f"{rejection}: {withdraw_in_step(settings, plan)}") from None


def approval_task() -> Approval:
    """The task `approve`, with the generation's figures in its question."""
    return Approval(
        task_id="approve",
        doc_md=Approval.__doc__,
        subject="Make {{ ti.xcom_pull(task_ids='plan', key='plan')['generation'] }} live?",
        body="{{ ti.xcom_pull(task_ids='evaluate')['metrics'] }} on "
        "{{ ti.xcom_pull(task_ids='evaluate')['questions'] }} {{ ti.xcom_pull(task_ids='evaluate')['asked'] }}; "
        "live before: {{ ti.xcom_pull(task_ids='evaluate')['live_metrics'] }}",
        fail_on_reject=True,
        execution_timeout=None,
    )
