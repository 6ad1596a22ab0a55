"""History: what the newest runs planned, measured and reported, from their XComs."""

import json
from collections.abc import Collection
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, TypeVar

from airflow.models.dag import DagModel
from airflow.models.dagrun import DagRun
from airflow.models.taskinstance import TaskInstance
from airflow.models.xcom import XComModel
from airflow.utils.state import TaskInstanceState
from pydantic import BaseModel, JsonValue, ValidationError
from sqlalchemy import select, tuple_
from sqlalchemy.orm import Session

from squadron_web.responses import PlanFigures, RunSummary

DEFAULT_DAG = "vector_ingest"
NEWEST_RUNS = 100
XCOMS = {
    ("resolve", "return_value"): "settings",
    ("plan", "plan"): "plan",
    ("evaluate", "return_value"): "evaluation",
    ("promote", "return_value"): "report",
}
"""Task and key of what the page reads of a run."""

RunKey = tuple[str, str]
"""DAG id and run id."""
Payload = TypeVar("Payload", bound=BaseModel)


class PlannedFigures(PlanFigures):
    """What the page reads of a plan. Here and below, a run of another version may lack any field."""

    generation: str | None = None


class Measured(BaseModel):
    """What the page reads of an evaluation."""

    metrics: dict[str, float | None] | None = None
    questions: int | None = None
    asked: str | None = None


class ReportedCounts(BaseModel):
    """Of passages."""

    embedded: int | None = None
    deleted: int | None = None


class Reported(BaseModel):
    """What the page reads of a report."""

    live: str | None = None
    promoted: bool | None = None
    held: str | None = None
    cost: float | None = None
    billed_cost: float | None = None
    counts: ReportedCounts = ReportedCounts()
    seconds: dict[str, float] = {}


@dataclass
class Run:
    """A run; its XComs are empty until the task has returned them, and where an XCom backend keeps them elsewhere."""

    dag_id: str
    run_id: str
    state: str
    started: str
    xcoms: dict[str, dict[str, JsonValue]] = field(default_factory=dict)
    """By the names of `XCOMS`."""
    failed_tasks: list[str] = field(default_factory=list)

    @property
    def settings(self) -> dict[str, JsonValue]:
        """The settings of the run."""
        return self.xcoms.get("settings", {})

    @property
    def collection(self) -> str | None:
        """The collection that the run is about."""
        return _text(self.settings.get("collection"))

    def read(self, name: str, kind: type[Payload]) -> Payload | None:
        """An XCom; None where it is empty, or not of this kind."""
        with suppress(ValidationError):
            return kind.model_validate(self.xcoms[name]) if self.xcoms.get(name) else None
        return None


def ingest_dags(session: Session) -> list[str]:
    """The DAGs that keep collections: `vector_ingest` and `vector_ingest_<collection>`."""
    names = session.scalars(select(DagModel.dag_id).where(DagModel.dag_id.startswith(DEFAULT_DAG, autoescape=True)))
    return sorted(dag for dag in names if dag == DEFAULT_DAG or dag.startswith(f"{DEFAULT_DAG}_"))


def newest_runs(session: Session, dag_ids: Collection[str]) -> list[Run]:
    """The newest runs of the DAGs, newest first."""
    rows = session.scalars(
        select(DagRun).where(DagRun.dag_id.in_(dag_ids)).order_by(DagRun.run_after.desc()).limit(NEWEST_RUNS)
    )
    runs = {
        (row.dag_id, row.run_id): Run(
            row.dag_id, row.run_id, str(row.state), (row.start_date or row.run_after).isoformat()
        )
        for row in rows
    }
    for dag_id, run_id, task, key, value in session.execute(_xcoms(runs)):
        runs[dag_id, run_id].xcoms[XCOMS[task, key]] = _object(value)
    for dag_id, run_id, task in session.execute(_failures(runs)):
        runs[dag_id, run_id].failed_tasks.append(task)
    return list(runs.values())


def summary_of(run: Run) -> RunSummary:
    """What the page shows of a run."""
    plan, report = run.read("plan", PlannedFigures), run.read("report", Reported)
    evaluation = run.read("evaluation", Measured) or Measured()
    reported = report or Reported()
    return RunSummary(
        run_id=run.run_id,
        state=run.state,
        started=run.started,
        failed_tasks=run.failed_tasks,
        service=_backend(run, "embedding", "service"),
        store=_backend(run, "store", "name"),
        generation=plan.generation if plan else None,
        metrics=evaluation.metrics or {},
        questions=evaluation.questions,
        asked=evaluation.asked,
        cost=reported.billed_cost or reported.cost,
        live=reported.live,
        promoted=reported.promoted,
        held=reported.held,
        embedded=reported.counts.embedded,
        deleted=reported.counts.deleted,
        seconds=sum(report.seconds.values()) if report else None,
        plan=PlanFigures.model_validate(plan.model_dump()) if plan else None,
    )


def _xcoms(runs: Collection[RunKey]) -> Any:
    columns = (XComModel.dag_id, XComModel.run_id, XComModel.task_id, XComModel.key, XComModel.value)
    return select(*columns).where(
        tuple_(XComModel.dag_id, XComModel.run_id).in_(list(runs)),
        tuple_(XComModel.task_id, XComModel.key).in_(list(XCOMS)),
        XComModel.map_index == -1,
    )


def _failures(runs: Collection[RunKey]) -> Any:
    failed = select(TaskInstance.dag_id, TaskInstance.run_id, TaskInstance.task_id).distinct()
    return failed.where(
        tuple_(TaskInstance.dag_id, TaskInstance.run_id).in_(list(runs)), TaskInstance.state == TaskInstanceState.FAILED
    )


def _object(value: JsonValue) -> dict[str, JsonValue]:
    """What a task returned, as an object; an XCom backend may leave something else."""
    if isinstance(value, str):
        with suppress(ValueError):
            value = json.loads(value)
    return value if isinstance(value, dict) else {}


def _backend(run: Run, section: str, name: str) -> str | None:
    settings = run.settings.get(section)
    return _text(settings.get(name)) if isinstance(settings, dict) else None


def _text(value: JsonValue) -> str | None:
    return value if isinstance(value, str) else None
