"""Resumable task: a `@task` that may wait in the triggerer and then goes on."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

from airflow.providers.standard.decorators.python import _PythonDecoratedOperator
from airflow.sdk.bases.decorator import task_decorator_factory

if TYPE_CHECKING:
    from airflow.sdk import Context


class ResumableTask(_PythonDecoratedOperator):
    """A `@task` whose function may raise TaskDeferred.

    When the trigger has fired, the function is called again from its beginning. It has to find what it did before.
    """

    def resume(self, context: Context, event: object = None) -> Any:
        """Call the function again. Airflow calls this when the trigger has fired."""
        return self.execute(context)


resumable_task = partial(task_decorator_factory, decorated_operator_class=ResumableTask)
