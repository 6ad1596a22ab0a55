"""Pools: how many shards each embedding service may have at once, in all DAGs together; config/pools.json says it.

Every part of Airflow that starts creates those that are missing, and leaves the slots of the others alone, which an
operator may have changed. A task whose pool is not there is never started, and its run would stay in `running` for
ever: the scheduler makes such a task fail when its run begins, with a note that says what to do.
"""

from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import Any

from airflow.listeners import hookimpl
from airflow.plugins_manager import AirflowPlugin

log = logging.getLogger(__name__)


def configured() -> dict[str, dict[str, Any]]:
    """Pool -> slots, description, include_deferred."""
    from pipelines.settings import home

    pools: dict[str, dict[str, Any]] = json.loads(Path(home(), "config", "pools.json").read_text(encoding="utf-8"))
    return pools


def create_missing() -> list[str]:
    """Create the configured pools that are not there; their names."""
    from airflow.models.pool import Pool
    from airflow.utils.session import create_session
    from sqlalchemy.exc import IntegrityError

    created = []
    for name, options in configured().items():
        try:
            with create_session() as session:
                if Pool.get_pool(name, session=session) is None:
                    session.add(Pool(pool=name, **options))
                    created.append(name)
        except IntegrityError:  # another part of Airflow, which starts now too, was faster
            created.remove(name)
    return created


def refusal(names: set[str]) -> str:
    """What is told of tasks whose pools are not there."""
    return (
        f"Airflow has no pool {', '.join(sorted(names))}, in which this task is to run: create it (Admin, Pools; or "
        "restart the scheduler, which creates what config/pools.json lists), then clear this task"
    )


class Pools:
    """What Airflow calls."""

    @hookimpl
    def on_starting(self, component: Any) -> None:
        """A part of Airflow starts. A task that starts may not ask the database: the scheduler has seen to it."""
        if type(component).__name__ != "TaskRunnerMarker" and (created := create_missing()):
            log.warning("pools created, as config/pools.json says: %s", ", ".join(created))

    @hookimpl
    def on_dag_run_running(self, dag_run: Any, msg: str) -> None:
        """A run begins, in the scheduler and in its transaction: nothing is committed here."""
        from airflow.models.pool import Pool
        from airflow.utils.state import State
        from sqlalchemy import select
        from sqlalchemy.orm import object_session

        session: Any = object_session(dag_run)
        waiting = [each for each in dag_run.get_task_instances(session=session) if each.state not in State.finished]
        named = {each.pool for each in waiting} & configured().keys()
        missing = named and named - set(session.scalars(select(Pool.pool).where(Pool.pool.in_(named))))
        if not missing:
            return
        log.error("%s of %s: %s", dag_run.run_id, dag_run.dag_id, refusal(missing))
        for each in waiting:
            each.set_state(State.FAILED if each.pool in missing else State.UPSTREAM_FAILED, session=session)
            if each.pool in missing:
                each.note = refusal({each.pool})


class EmbeddingPools(AirflowPlugin):
    """The listener above."""

    name = "embedding_pools"
    listeners = [Pools()]  # noqa: RUF012 (Airflow's own way)
