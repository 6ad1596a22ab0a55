"""Pools: how many shards each embedding service may have at once, in all DAGs together; config/pools.json says it.

Every part of Airflow that starts creates those that are missing, and leaves the slots of the others alone, which an
operator may have changed.

The pool of a task is fixed when its DAG is parsed, but the service is known once a run has resolved its settings:
`resolve` tells the pool as its XCom `pool`. The scheduler makes the instances of a mapped task after that, and asks
the cluster policy below, which gives each the pool of its run. A task whose pool is not there is never started, and
its run would stay in `running` for ever: such a task fails then, with a note that says what to do.
"""

from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import Any

from airflow.listeners import hookimpl
from airflow.plugins_manager import AirflowPlugin
from airflow.policies import hookimpl as policy_hook
from airflow.settings import get_policy_plugin_manager

log = logging.getLogger(__name__)

PREFIX = "embedding_"
TOLD_BY = {"task_id": "resolve", "key": "pool"}
"""The XCom in which a run says whose pool its shards take."""


def configured() -> dict[str, dict[str, Any]]:
    """Pool -> slots, description, include_deferred."""
    from squadron.settings.home import home

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


def missing(names: set[str], session: Any) -> set[str]:
    """Those of the pools that are not there."""
    from airflow.models.pool import Pool
    from sqlalchemy import select

    return names and names - set(session.scalars(select(Pool.pool).where(Pool.pool.in_(names))))


class Placing:
    """The cluster policy. It is asked in transactions of Airflow's, and so commits nothing, and raises nothing."""

    part: Any = None
    """The part of Airflow that has started in this process: in a scheduler, a Job, which learns its type later."""

    @policy_hook
    def task_instance_mutation_hook(self, task_instance: Any, dag_run: Any) -> None:
        """Whatever the DAG says, a task that embeds runs in the pool of the service that its run has resolved."""
        from sqlalchemy.orm import object_session

        session = object_session(dag_run) if dag_run is not None else None
        if session is None or not str(task_instance.pool).startswith(PREFIX):
            return
        with session.no_autoflush:
            task_instance.pool = _pool_of_run(dag_run, session) or task_instance.pool
            is_scheduler = getattr(self.part, "job_type", None) == "SchedulerJob"  # `dag.test()` goes without pools
            if is_scheduler and task_instance.state is None and missing({task_instance.pool}, session):
                _fail(task_instance, session)


def _pool_of_run(dag_run: Any, session: Any) -> str | None:
    """What the run's first task has told; None before it has, and of DAGs that have no such task."""
    from airflow.models.xcom import XComModel
    from sqlalchemy import select

    told = select(XComModel.value).filter_by(dag_run_id=dag_run.id, **TOLD_BY)
    name = str(session.scalars(told).first()).strip('"')  # JSON in JSON, where it was not told by a task
    return name if name.startswith(PREFIX) else None


def _fail(task_instance: Any, session: Any) -> None:
    from airflow.utils.state import State

    said = refusal({task_instance.pool})
    log.error("%s of %s: %s", task_instance.task_id, task_instance.run_id, said)
    task_instance.set_state(State.FAILED, session=session)
    task_instance.note = said


class Pools:
    """What Airflow calls."""

    @hookimpl
    def on_starting(self, component: Any) -> None:
        """A part of Airflow starts. A task that starts may not ask the database: the scheduler has seen to it."""
        if type(component).__name__ == "TaskRunnerMarker":
            return
        policy: Any = get_policy_plugin_manager().get_plugin(EmbeddingPools.name)
        policy.part = component
        if created := create_missing():
            log.warning("pools created, as config/pools.json says: %s", ", ".join(created))

    @hookimpl
    def on_dag_run_running(self, dag_run: Any, msg: str) -> None:
        """A run begins, maybe again after tasks were cleared: the policy is not asked for those that were made before.

        This is in the scheduler and in its transaction: nothing is committed here.
        """
        from airflow.utils.state import State
        from sqlalchemy.orm import object_session

        session: Any = object_session(dag_run)
        instances = dag_run.get_task_instances(session=session)
        waiting = [each for each in instances if each.state not in State.finished and each.map_index >= 0]
        gone = missing({each.pool for each in waiting if str(each.pool).startswith(PREFIX)}, session)
        for each in waiting:
            if each.pool in gone:
                _fail(each, session)


class EmbeddingPools(AirflowPlugin):
    """The listener and the policy above."""

    name = "embedding_pools"
    listeners = [Pools()]  # noqa: RUF012 (Airflow's own way)

    @classmethod
    def on_load(cls, *_: Any, **__: Any) -> None:
        """Airflow takes policies from a module in its own configuration: this one comes with the plugins."""
        if not get_policy_plugin_manager().has_plugin(cls.name):  # a task's process loads plugins a second time
            get_policy_plugin_manager().register(Placing(), cls.name)
