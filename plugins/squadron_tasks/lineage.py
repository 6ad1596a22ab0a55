"""Lineage of a DAG run: tasks that tell OpenLineage, where it is set up, which datasets they read and wrote."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING

from airflow.providers.standard.decorators.python import _PythonDecoratedOperator
from airflow.sdk import Asset, get_current_context
from airflow.sdk.bases.decorator import task_decorator_factory

from squadron.airflow_support import lineage

if TYPE_CHECKING:
    from collections.abc import Callable

    from airflow.providers.openlineage.extractors import OperatorLineage
    from openlineage.client.event_v2 import Dataset

    from squadron.runs.report import RunReport
    from squadron.runs.results import Finished, Plan
    from squadron.settings.schema import Settings


@dataclass(frozen=True)
class Datasets:
    """What a task has read and written."""

    inputs: list[Dataset] = field(default_factory=list)
    outputs: list[Dataset] = field(default_factory=list)


class LineageTask(_PythonDecoratedOperator):
    """A `@task` whose function says, by `record_build` or `record_promotion`, what it has read and written."""

    datasets: Callable[[], Datasets] = Datasets

    def get_openlineage_facets_on_complete(self, task_instance: object) -> OperatorLineage:
        """Airflow's OpenLineage listener calls this once the task has succeeded."""
        from airflow.providers.openlineage.extractors import OperatorLineage

        datasets = self.datasets()
        return OperatorLineage(inputs=datasets.inputs, outputs=datasets.outputs)


lineage_task = partial(task_decorator_factory, decorated_operator_class=LineageTask)


def record_build(settings: Settings, plan: Plan, finished: Finished) -> None:
    """Record that this task has built a generation from the corpus."""

    def datasets() -> Datasets:
        corpus = lineage.corpus_dataset(settings, plan.documents)
        return Datasets([corpus], [lineage.generation_output(settings, plan, finished)])

    _current_task().datasets = datasets


def record_promotion(settings: Settings, report: RunReport) -> None:
    """Record that this task has let readers see a generation, where it has."""
    if report["live"] != report["generation"]:
        return
    uri = lineage.collection_uri(settings.store.name, report["collection"])
    asset = Asset(uri=uri, extra={"generation": report["generation"], "rows": report["rows"]})

    def datasets() -> Datasets:
        from airflow.providers.common.compat.openlineage.utils.utils import translate_airflow_asset

        generation = lineage.generation_input(settings, report["generation"])
        collection = translate_airflow_asset(asset, None)
        return Datasets([generation], [collection] if collection else [])

    _current_task().datasets = datasets


def _current_task() -> LineageTask:
    task = get_current_context()["task"]
    if not isinstance(task, LineageTask):
        raise TypeError(
            f"the task {task.task_id!r} is a {type(task).__name__}: decorate its function with lineage_task"
        )
    return task
