"""Retries of a DAG run: what is tried again, and when. It holds no DAG."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from airflow.providers.standard.exceptions import HITLRejectException
from airflow.sdk import ExceptionRetryPolicy, RetryAction, RetryDecision, RetryRule

from squadron.errors import GateError, GuardError, SettingsError, SourceError, UnreachableSourceError

# Trying again cannot help against these; all else (a service or a disk that failed) is tried again.
REFUSALS = [
    *(SettingsError, SourceError, GuardError, GateError, HITLRejectException),
    "squadron.embeddings.remote.failures.DeniedServiceError",
]

LONGEST_WAIT_SECONDS = 3600
"""A service whose clock is wrong may ask for years."""


class AskedRetryPolicy(ExceptionRetryPolicy):
    """The rules; but where a service asked to be left alone for so long, the next try comes after that time."""

    def evaluate(self, exception: BaseException, try_number: int, max_tries: int, context: Any = None) -> RetryDecision:
        seconds = getattr(exception, "retry_after", None)
        if seconds is None:
            return super().evaluate(exception, try_number, max_tries, context)
        seconds = min(seconds, LONGEST_WAIT_SECONDS)
        return RetryDecision.retry(timedelta(seconds=seconds), f"the service asked to wait; {seconds:.1f} s it is")


RETRY_POLICY = AskedRetryPolicy(
    rules=[
        RetryRule(exception=UnreachableSourceError, action=RetryAction.DEFAULT),
        RetryRule(exception=REFUSALS, action=RetryAction.FAIL),
    ]
)
