"""Patience: for how long a store that fails for a reason that may pass is asked again.

A server that is restarted, or whose place another takes, is back within a minute or two. Who waits for it need not
know how often to try: the waits grow up to LONGEST_WAIT_SECONDS, until `deadline_seconds` are over.
"""

import random
import time
from collections.abc import Callable

from squadron.process.backoff import wait_seconds

LONGEST_WAIT_SECONDS = 8.0
REFUSED_ROW_TRIES = 6
"""How often a row is sent that the store refuses in an answer of its own: it is there, so that is soon given up."""


class Patience:
    """With one request: how often it failed, and when it is given up."""

    def __init__(
        self, deadline_seconds: float, max_retries: int | None = None, clock: Callable[[], float] = time.monotonic
    ) -> None:
        """`deadline_seconds` after the first failure it is given up, and after `max_retries`, if that is a number."""
        self.attempts = 0
        self._deadline_seconds, self._max_retries, self._clock = deadline_seconds, max_retries, clock
        self._until: float | None = None
        self._limit = ""

    def wait_seconds(self, passing: bool, asked: float | None = None, attempts: int = 1) -> float | None:
        """Take notice of a failure: how long to wait before the next attempt, or None: there is to be none.

        `passing`: whether another attempt may do better. `asked`: what the store asked to wait. `attempts`: how many
        of them failed since the last time.
        """
        now = self._clock()
        if self._until is None:
            self._until = now + self._deadline_seconds
        self.attempts += attempts
        if not passing:
            return None
        if self._max_retries is not None and self.attempts > self._max_retries:
            self._limit = f"max_retries = {self._max_retries}"
            return None
        wait = wait_seconds(self.attempts, longest=LONGEST_WAIT_SECONDS)
        if asked is not None:  # those who were told the same do not all come back at once, nor for 0 at full speed
            wait = max(asked * random.uniform(1, 1.1), wait / 25)  # noqa: S311 - it keeps no secret
        if now + wait > self._until:
            self._limit = f"deadline_seconds = {self._deadline_seconds:g}"
            return None
        return wait

    def tried(self) -> str:
        """For a message: after how many attempts; empty after the first."""
        return f" after {self.attempts} attempts" if self.attempts > 1 else ""

    def given_up(self, section: str) -> str:
        """For the end of a message: the setting that ended it, empty if none did; `section` is what it stands in."""
        return f" (it was given up by {section}.{self._limit})" if self._limit and self.attempts > 1 else ""
