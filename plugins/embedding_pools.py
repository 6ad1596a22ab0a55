"""Pools limit how many shards each embedding service has at once, in all DAGs together. config/pools.json lists them.

Every part of Airflow creates the missing pools when it starts. It leaves existing pools as they are: an operator may
have changed their slots.

The pool of a task is fixed when its DAG is parsed, but the service is known only once a run has resolved its settings:
`resolve` returns the pool as its XCom `pool`. The scheduler makes the instances of a mapped task after that, and asks
the cluster policy below, which gives each the pool of its run. Airflow never starts a task whose pool is missing, and
its run would stay in `running` for ever: the policy fails such a task, with a note that says what to do.
"""

from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypedDict

from airflow.listeners import hookimpl
from airflow.plugins_manager import AirflowPlugin
from airflow.policies import hookimpl as policy_hook
from airflow.settings import get_policy_plugin_manager

if TYPE_CHECKING:
    from airflow.models import DagRun, TaskInstance
    from sqlalchemy.orm import Session

log = logging.getLogger(__name__)

PREFIX = "embedding_"
POOL_XCOM = {"task_id": "resolve", "key": "pool"}
"""The XCom that names the pool of a run's shards."""


class PoolOptions(TypedDict):
    """A pool in config/pools.json, by the names of Airflow's columns."""

    slots: int
    description: str
    include_deferred: bool


def configured_pools() -> dict[str, PoolOptions]:
    """The pools of config/pools.json by their names."""
    from squadron.settings.home import home

    pools: dict[str, PoolOptions] = json.loads(Path(home(), "config", "pools.json").read_text(encoding="utf-8"))
    return pools


def create_missing() -> list[str]:
    """Create the configured pools that are missing, and return their names."""
    from airflow.models.pool import Pool
    from airflow.utils.session import create_session
    from sqlalchemy.exc import IntegrityError

    created = []
    for name, options in configured_pools().items():
        try:
            with create_session() as session:
                if Pool.get_pool(name, session=session) is None:
                    session.add(Pool(pool=name, **options))
                    created.append(name)
        except IntegrityError:  # another part of Airflow, which is starting too, was faster
            created.remove(name)
    return created


def missing_pool_note(names: set[str]) -> str:
    """The note on a task whose pool is missing."""
    return (
        f"Airflow has no pool {', '.join(sorted(names))}, in which this task would run: create it (Admin, Pools; or "
        "restart the scheduler, which creates what config/pools.json lists), then clear this task"
    )


def missing_pools(names: set[str], session: Session) -> set[str]:
    """Those of the pools that do not exist."""
    from airflow.models.pool import Pool
    from sqlalchemy import select

    return names and names - set(session.scalars(select(Pool.pool).where(Pool.pool.in_(names))))


class PoolPolicy:
    """The cluster policy. Airflow calls it inside its own transactions, so it commits nothing and raises nothing."""

    part: object = None
    """The part of Airflow that has started in this process: in a scheduler, a Job, which learns its type later."""

    @policy_hook
    def task_instance_mutation_hook(self, task_instance: TaskInstance, dag_run: DagRun | None) -> None:
        """Put a task that embeds into the pool of the service that its run has resolved, whatever the DAG says."""
        from sqlalchemy.orm import object_session

        session = object_session(dag_run) if dag_run is not None else None
        if dag_run is None or session is None or not str(task_instance.pool).startswith(PREFIX):
            return
        with session.no_autoflush:
            task_instance.pool = _pool_of_run(dag_run, session) or task_instance.pool
            is_scheduler = getattr(self.part, "job_type", None) == "SchedulerJob"  # `dag.test()` goes without pools
            if is_scheduler and task_instance.state is None and missing_pools({task_instance.pool}, session):
                _fail(task_instance, session)


def _pool_of_run(dag_run: DagRun, session: Session) -> str | None:
    """The pool that the run's first task has named; None before it has, and in DAGs that have no such task."""
    from airflow.models.xcom import XComModel
    from sqlalchemy import select

    query = select(XComModel.value).filter_by(dag_run_id=dag_run.id, **POOL_XCOM)
    name = str(session.scalars(query).first()).strip('"')  # outside of a task, XComs are JSON in JSON
    return name if name.startswith(PREFIX) else None


def _fail(task_instance: TaskInstance, session: Session) -> None:
    from airflow.utils.state import State

    note = missing_pool_note({task_instance.pool})
    log.error("%s of %s: %s", task_instance.task_id, task_instance.run_id, note)
    task_instance.set_state(State.FAILED, session=session)
    task_instance.note = note


class PoolListener:
    """Creates missing pools when Airflow starts, and fails tasks whose pool is missing when their run begins."""

    @hookimpl
    def on_starting(self, component: object) -> None:
        """A part of Airflow starts. A task's process does nothing here: it has no access to the database."""
        if type(component).__name__ == "TaskRunnerMarker":
            return
        policy: Any = get_policy_plugin_manager().get_plugin(EmbeddingPools.name)
        policy.part = component
        if created := create_missing():
            log.warning("pools of config/pools.json were created: %s", ", ".join(created))

    @hookimpl
    def on_dag_run_running(self, dag_run: DagRun, msg: str) -> None:
        """A run begins, perhaps again after tasks were cleared: Airflow does not ask the policy for tasks made before.

        The scheduler calls this inside its transaction, so it commits nothing.
        """
        from airflow.utils.state import State
        from sqlalchemy.orm import object_session

        session: Any = object_session(dag_run)
        instances = dag_run.get_task_instances(session=session)
        waiting = [each for each in instances if each.state not in State.finished and each.map_index >= 0]
        missing = missing_pools({each.pool for each in waiting if str(each.pool).startswith(PREFIX)}, session)
        for each in waiting:
            if each.pool in missing:
                _fail(each, session)


class EmbeddingPools(AirflowPlugin):
    """The listener and the policy above."""

    name = "embedding_pools"
    listeners = [PoolListener()]  # noqa: RUF012 (Airflow's own way)

    @classmethod
    def on_load(cls, *_: Any, **__: Any) -> None:
        """Register the policy. Airflow itself reads policies only from `airflow_local_settings.py`."""
        if not get_policy_plugin_manager().has_plugin(cls.name):  # a task's process loads plugins a second time
            get_policy_plugin_manager().register(PoolPolicy(), cls.name)
