"""Lineage of a DAG run: tasks that tell OpenLineage, where it is set up, which datasets they read and wrote."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

from airflow.providers.standard.decorators.python import _PythonDecoratedOperator
from airflow.sdk import Asset, get_current_context
from airflow.sdk.bases.decorator import task_decorator_factory

from squadron.airflow_support import lineage

if TYPE_CHECKING:
    from collections.abc import Callable

    from squadron.runs.results import Finished, Plan
    from squadron.settings.schema import Settings


class LineageTask(_PythonDecoratedOperator):
    """A `@task` whose function says, by `record_build` or `record_promotion`, what it has read and written."""

    datasets: Callable[[], tuple[list[Any], list[Any]]] | None = None

    def get_openlineage_facets_on_complete(self, task_instance: Any) -> Any:
        """What OpenLineage's listener asks for, once the task has succeeded."""
        from airflow.providers.openlineage.extractors import OperatorLineage

        read, written = self.datasets() if self.datasets else ([], [])
        return OperatorLineage(inputs=read, outputs=written)


lineage_task = partial(task_decorator_factory, decorated_operator_class=LineageTask)


def record_build(settings: Settings, plan: Plan, finished: Finished) -> None:
    """This task has made a generation of the corpus."""

    def datasets() -> tuple[list[Any], list[Any]]:
        corpus, generation = lineage.built(settings, plan, finished)
        return [corpus], [generation]

    get_current_context()["task"].datasets = datasets


def record_promotion(settings: Settings, report: dict[str, Any]) -> None:
    """This task has let readers see a generation; where it has not, there is nothing to tell."""
    if report["live"] != report["generation"]:
        return
    uri = lineage.collection_uri(settings.store.name, report["collection"])
    asset = Asset(uri=uri, extra={"generation": report["generation"], "rows": report["rows"]})

    def datasets() -> tuple[list[Any], list[Any]]:
        from airflow.providers.common.compat.openlineage.utils.utils import translate_airflow_asset

        collection = translate_airflow_asset(asset, None)
        return [lineage.generation_dataset(settings, report["generation"])], [collection] if collection else []

    get_current_context()["task"].datasets = datasets
