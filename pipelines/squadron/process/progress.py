"""Progress: one report for a task's log and for a bar on a terminal, through `logging`."""

import logging
import time

log = logging.getLogger(__name__)

LOG_EVERY_SECONDS = 10.0


class Progress:
    """Counts what is done in a stage.

    Every step is a debug record with the attributes `stage`, `done`, `total` and `unit`, for a handler that
    draws; every ten seconds one is an info record, for people who read the log.
    """

    def __init__(self, stage: str, total: int | None, unit: str) -> None:
        self._extra = {"stage": stage, "total": total, "unit": unit}
        self._total = total
        self._done = 0
        self._started = self._told = time.monotonic()
        self.add(0)

    def add(self, done: int) -> None:
        """Report that so many more are done."""
        self._done += done
        now = time.monotonic()
        level = logging.INFO if now - self._told >= LOG_EVERY_SECONDS else logging.DEBUG
        self._told = now if level == logging.INFO else self._told
        rate = self._done / max(now - self._started, 1e-6)
        total = "" if self._total is None else f" of {self._total:,}"
        log.log(
            level,
            "%s: %s%s %s, %s/s",
            self._extra["stage"],
            f"{self._done:,}",
            total,
            self._extra["unit"],
            f"{rate:,.0f}",
            extra={**self._extra, "done": self._done},
        )
