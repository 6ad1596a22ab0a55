"""History: what the newest runs planned, measured and reported, from their XComs."""

import json
from collections.abc import Collection
from contextlib import suppress
from typing import Any

from airflow.models.dag import DagModel
from airflow.models.dagrun import DagRun
from airflow.models.taskinstance import TaskInstance
from airflow.models.xcom import XComModel
from airflow.utils.state import TaskInstanceState
from sqlalchemy import select, tuple_
from sqlalchemy.orm import Session

DEFAULT_DAG = "vector_ingest"
NEWEST_RUNS = 100
XCOMS = {
    ("resolve", "return_value"): "settings",
    ("plan", "plan"): "plan",
    ("evaluate", "return_value"): "evaluation",
    ("promote", "return_value"): "report",
}

PLANNED = ("live", "documents", "passages", "unchanged", "deleted", "quarantined", "tokens", "billed_tokens", "cost")


def ingest_dags(session: Session) -> list[str]:
    """The DAGs that keep collections: `vector_ingest` and `vector_ingest_<collection>`."""
    found = session.scalars(select(DagModel.dag_id).where(DagModel.dag_id.startswith(DEFAULT_DAG, autoescape=True)))
    return sorted(dag for dag in found if dag == DEFAULT_DAG or dag.startswith(f"{DEFAULT_DAG}_"))


def newest_runs(session: Session, dag_ids: Collection[str]) -> list[dict[str, Any]]:
    """The newest runs of the DAGs, newest first.

    Each has run_id, dag_id, state, started, collection, and its XComs, empty where there are none: settings, plan,
    evaluation, report; a failed one has the tasks that failed.
    """
    rows = session.scalars(
        select(DagRun).where(DagRun.dag_id.in_(dag_ids)).order_by(DagRun.run_after.desc()).limit(NEWEST_RUNS)
    )
    runs: dict[tuple[str, str], dict[str, Any]] = {
        (row.dag_id, row.run_id): {
            "run_id": row.run_id,
            "dag_id": row.dag_id,
            "state": str(row.state),
            "started": (row.start_date or row.run_after).isoformat(),
        }
        for row in rows
    }
    for dag_id, run_id, task, key, value in session.execute(_xcoms(runs)):
        runs[dag_id, run_id][XCOMS[task, key]] = value
    for dag_id, run_id, task in session.execute(_failures(runs)):
        runs[dag_id, run_id].setdefault("failed_tasks", []).append(task)
    return [_read(run) for run in runs.values()]


def _xcoms(runs: Collection[tuple[str, str]]) -> Any:
    columns = (XComModel.dag_id, XComModel.run_id, XComModel.task_id, XComModel.key, XComModel.value)
    return select(*columns).where(
        tuple_(XComModel.dag_id, XComModel.run_id).in_(list(runs)),
        tuple_(XComModel.task_id, XComModel.key).in_(list(XCOMS)),
        XComModel.map_index == -1,
    )


def _failures(runs: Collection[tuple[str, str]]) -> Any:
    failed = select(TaskInstance.dag_id, TaskInstance.run_id, TaskInstance.task_id).distinct()
    return failed.where(
        tuple_(TaskInstance.dag_id, TaskInstance.run_id).in_(list(runs)), TaskInstance.state == TaskInstanceState.FAILED
    )


def _read(run: dict[str, Any]) -> dict[str, Any]:
    """The run with its XComs as objects, and the collection they are about."""
    run |= {name: _object(run.get(name)) for name in XCOMS.values()}
    collection = run["settings"].get("collection")
    return run | {"collection": collection if isinstance(collection, str) else None}


def _object(value: Any) -> dict[str, Any]:
    """What a task returned; nothing where an XCom backend keeps it elsewhere."""
    if isinstance(value, str):
        with suppress(ValueError):
            value = json.loads(value)
    return value if isinstance(value, dict) else {}


def shown(run: dict[str, Any]) -> dict[str, Any]:
    """What the page shows of a run: of its settings the two backends alone, and no paths.

    `cost` is what the service says it billed, where it says so, else the plan's estimate; of a run that did not end
    well it is not known.
    """
    plan, evaluation, report, settings = run["plan"], run["evaluation"], run["report"], run["settings"]
    return {
        **{name: run[name] for name in ("run_id", "state", "started")},
        "failed_tasks": run.get("failed_tasks", []),
        "service": settings.get("embedding", {}).get("service"),
        "store": settings.get("store", {}).get("name"),
        "generation": plan.get("generation"),
        "metrics": evaluation.get("metrics") or {},
        "questions": evaluation.get("questions"),
        "asked": evaluation.get("asked"),
        "cost": report.get("cost_billed") or report.get("cost"),
        **{name: report.get(name) for name in ("live", "promoted", "held")},
        "embedded": report.get("counts", {}).get("embedded"),
        "deleted": report.get("counts", {}).get("deleted"),
        "seconds": sum(report["seconds"].values()) if report else None,
        "plan": {name: plan.get(name) for name in PLANNED} if plan else None,
    }
