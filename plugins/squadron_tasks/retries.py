"""Retries of a DAG run: which failures Airflow retries, and when."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING

from airflow.providers.standard.exceptions import HITLRejectException
from airflow.sdk import ExceptionRetryPolicy, RetryAction, RetryDecision, RetryRule

from squadron.errors import GateError, GuardError, SettingsError, SourceError, UnreachableSourceError

if TYPE_CHECKING:
    from airflow.sdk import Context

# A retry cannot help against these. All else is retried, e.g. a service or a disk that failed.
REFUSALS: list[type[BaseException] | str] = [
    *(SettingsError, SourceError, GuardError, GateError, HITLRejectException),
    "squadron.embeddings.remote.failures.DeniedServiceError",
]

LONGEST_WAIT_SECONDS = 3600
"""The longest wait that a service can ask for: one whose clock is wrong may ask for years."""


class AskedRetryPolicy(ExceptionRetryPolicy):
    """The rules below. When a service has said how long to wait, the next try comes after that time."""

    def evaluate(
        self, exception: BaseException, try_number: int, max_tries: int, context: Context | None = None
    ) -> RetryDecision:
        seconds = getattr(exception, "retry_after", None)
        if seconds is None:
            return super().evaluate(exception, try_number, max_tries, context)
        seconds = min(seconds, LONGEST_WAIT_SECONDS)
        return RetryDecision.retry(timedelta(seconds=seconds), f"the service asked to wait: {seconds:.1f} s")


RETRY_POLICY = AskedRetryPolicy(
    rules=[
        RetryRule(exception=UnreachableSourceError, action=RetryAction.DEFAULT),
        RetryRule(exception=REFUSALS, action=RetryAction.FAIL),
    ]
)

RETRIES = {
    "retries": 2,
    "retry_delay": timedelta(seconds=30),
    "retry_exponential_backoff": 2.0,
    "max_retry_delay": timedelta(minutes=15),
    "retry_policy": RETRY_POLICY,
}
"""Default arguments of tasks that talk to services and stores."""
