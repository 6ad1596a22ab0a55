"""Retries: a request that failed is sent again, after a pause, for as long as that may help.

The loop is tenacity's. What an error means, and when to give up, is for each service or store to say.
"""

import logging
import random
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    import tenacity

log = logging.getLogger(__name__)

T = TypeVar("T")
E = TypeVar("E", bound=Exception)

FIRST_PAUSE_SECONDS, LONGEST_PAUSE_SECONDS = 0.5, 30.0
LONGEST_STORE_PAUSE_SECONDS = 8.0
SHORTER_ON_REQUEST = 25
"""A pause that a service asks for may be so many times shorter than ours."""


def retried(
    request: Callable[[], T],
    errors: type[E] | tuple[type[E], ...],
    pause: Callable[[E], float],
    sleep: Callable[[float], None] = time.sleep,
) -> T:
    """What the request returns.

    After one of `errors`, `pause` returns the seconds until the request is sent again, or raises what ends the
    trying. `sleep` waits for them. Other errors are raised as they are.
    """
    import tenacity  # 0.05 s, which a run without a service does without

    def seconds(state: "tenacity.RetryCallState") -> float:
        error: Any = state.outcome and state.outcome.exception()
        return pause(error)

    retrying = tenacity.Retrying(retry=tenacity.retry_if_exception_type(errors), wait=seconds, sleep=sleep)
    return retrying(request)


def pause_seconds(
    failures: int, retry_after_seconds: float | None = None, longest_seconds: float = LONGEST_PAUSE_SECONDS
) -> float:
    """The pause after so many failures in a row: doubled each time, half of it random.

    Chance keeps many clients from coming back together (Brooker, "Exponential Backoff And Jitter", AWS 2015).
    `retry_after_seconds`: what the service asked for. It gets that, up to a tenth more, and a pause that grows if it
    keeps asking for a short one.
    """
    doubled = min(longest_seconds, FIRST_PAUSE_SECONDS * 2.0 ** min(failures - 1, 30))
    seconds = doubled * random.uniform(0.5, 1.0)  # noqa: S311 - not a secret
    if retry_after_seconds is None:
        return seconds
    return max(retry_after_seconds * random.uniform(1.0, 1.1), seconds / SHORTER_ON_REQUEST)  # noqa: S311 - not a secret


@dataclass(frozen=True)
class Failure:
    """What an error says about the attempt and the next one."""

    attempt: str
    """What failed, the subject first: `Weaviate at http://host did not list the rows`."""
    reason: str
    may_pass: bool
    """Whether another attempt may succeed."""
    retry_after_seconds: float | None = None
    """The pause that the store asked for."""
    attempts: int = 1
    """Those that the store's client made on its own included."""
    shows_secret: bool = False
    """Whether the error itself holds a key: it is not shown as the cause then."""


class Retries:
    """Those of one request, limited to some seconds after its first failure and, if that is set, to a number."""

    def __init__(
        self,
        section: str,
        deadline_seconds: float,
        max_retries: int | None = None,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        """`section`: where the two limits stand in the settings, for messages, e.g. `store.weaviate`."""
        self._section, self._seconds, self._max_retries = section, deadline_seconds, max_retries
        self._clock, self._sleep = clock, sleep
        self._ends_at: float | None = None
        self._attempts = 0

    def answer(
        self,
        request: Callable[[], T],
        errors: type[E] | tuple[type[E], ...],
        failure: Callable[[E], Failure],
        final_error: Callable[[str], Exception],
    ) -> T:
        """What the request returns; it is sent again while its failures may pass and the limits allow.

        `failure` explains an error. Raises `final_error`, with a message of what failed, how often and why, and the
        setting that ended it, if one did.
        """

        def pause(error: E) -> float:
            explained = failure(error)
            seconds = self._pause_seconds(explained)
            if isinstance(seconds, float):
                log.warning("%s. Trying again in %.1f s", self._message(explained), seconds)
                return seconds
            raise final_error(self._message(explained) + seconds) from None if explained.shows_secret else error

        return retried(request, errors, pause, self._sleep)

    def _pause_seconds(self, failure: Failure) -> float | str:
        """Seconds until the next attempt; if there is none, the end of the message: the limit, empty if it is none."""
        now = self._clock()
        if self._ends_at is None:
            self._ends_at = now + self._seconds
        self._attempts += failure.attempts
        if not failure.may_pass:
            return ""
        if self._max_retries is not None and self._attempts > self._max_retries:
            return self._given_up(f"max_retries = {self._max_retries}")
        seconds = pause_seconds(self._attempts, failure.retry_after_seconds, LONGEST_STORE_PAUSE_SECONDS)
        if now + seconds > self._ends_at:
            return self._given_up(f"deadline_seconds = {self._seconds:g}")
        return seconds

    def _given_up(self, limit: str) -> str:
        return f" (it was given up by {self._section}.{limit})" if self._attempts > 1 else ""

    def _message(self, failure: Failure) -> str:
        tried = f" after {self._attempts} attempts" if self._attempts > 1 else ""
        return f"{failure.attempt}{tried}: {failure.reason}"
