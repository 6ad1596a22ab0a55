"""Pacing: requests, texts and tokens sent no faster than a service admits."""

import time
from collections.abc import Callable, Mapping
from threading import Lock

BURST_SECONDS = 5.0
"""What may be sent ahead of the even pace, after a pause or at the start."""


class Pace:
    """Limits per minute, kept together; any number of threads may ask.

    The generic cell rate algorithm (ITU-T I.371): each resource has the time at which all that was sent would
    be paid for at the limit's rate, and a request may start BURST_SECONDS before it.
    """

    def __init__(self, per_minute: Mapping[str, int | None], clock: Callable[[], float] = time.monotonic) -> None:
        self._seconds_each = {name: 60 / limit for name, limit in per_minute.items() if limit}
        self._paid_at = dict.fromkeys(self._seconds_each, clock())
        self._clock = clock
        self._lock = Lock()

    def reserve(self, amounts: Mapping[str, int]) -> float:
        """Seconds to wait before a request of these amounts may be sent; its place is taken from now on."""
        with self._lock:
            now = self._clock()
            start = max([now, *(at - BURST_SECONDS for at in self._paid_at.values())])
            for name, seconds in self._seconds_each.items():
                self._paid_at[name] = max(self._paid_at[name], start) + amounts.get(name, 0) * seconds
            return start - now

    def correct(self, name: str, difference: int) -> None:
        """Count more, or less, than was reserved: what the service says it was."""
        with self._lock:
            if name in self._paid_at:
                self._paid_at[name] += difference * self._seconds_each[name]
