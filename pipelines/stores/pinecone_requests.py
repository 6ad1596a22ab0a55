"""Requests to Pinecone: repeated within bounds, explained when they fail, several at a time."""

import logging
import os
import random
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from contextlib import suppress
from threading import Lock
from typing import TypeVar

from pinecone.errors import (
    ApiError,
    PineconeConnectionError,
    PineconeError,
    PineconeTimeoutError,
    ResponseParsingError,
    UnauthorizedError,
)

from pipelines.credentials import CREDENTIALS
from pipelines.errors import StoreError
from pipelines.store_settings import PineconeSettings

S = TypeVar("S")
T = TypeVar("T")

log = logging.getLogger(__name__)

KEY = CREDENTIALS["pinecone"]
FIRST_BACKOFF_SECONDS, LONGEST_BACKOFF_SECONDS = 0.25, 8.0
LONGEST_RETRY_AFTER_SECONDS = 300.0

# Both report every request at the level that tasks log at.
for _chatty in map(logging.getLogger, ("pinecone", "httpx")):
    if _chatty.level == logging.NOTSET:
        _chatty.setLevel(logging.WARNING)


class PartlyWrittenError(PineconeError):
    """The service took some of the rows of a request."""


class Requests:
    """Sends requests as the settings say."""

    def __init__(self, settings: PineconeSettings) -> None:
        self.settings = settings
        self.making = Lock()
        """Held while a request's body is made."""
        self._threads = ThreadPoolExecutor(settings.concurrency, thread_name_prefix="pinecone")

    def close(self) -> None:
        """Start no request that waits."""
        self._threads.shutdown(wait=False, cancel_futures=True)

    @property
    def address(self) -> str:
        """The setting that says where requests go."""
        if self.settings.host:
            return f"store.pinecone.host {self.settings.host!r}"
        return f"store.pinecone.index {self.settings.index!r}"

    def call(self, what: str, request: Callable[[], T], passing: tuple[type[PineconeError], ...] = ()) -> T:
        """The answer to a request. It is repeated while the service is busy or cannot be reached, within bounds.

        Raises StoreError, with what was done and why it failed; errors that are `passing` are raised as they are.
        """
        attempt = 0
        while True:
            try:
                return request()
            except passing:
                raise
            except PineconeError as error:
                pause = _pause_seconds(error, attempt)
                if pause is None or attempt >= self.settings.max_retries:
                    shows_key = _without_key(str(error)) != str(error)
                    raise StoreError(self._explanation(what, error, attempt + 1)) from None if shows_key else error
                attempt += 1
                log.warning("%s. Trying again in %.1f s", self._explanation(what, error, attempt), pause)
                time.sleep(pause)

    def polls(self) -> Iterator[None]:
        """Tries, with growing pauses between them, until `consistency_seconds` are over."""
        end = time.monotonic() + self.settings.consistency_seconds
        pause = 0.05
        while True:
            yield
            if time.monotonic() + pause > end:
                return
            time.sleep(pause)
            pause = min(2 * pause, 5.0)

    def submit(self, task: Callable[..., T], *arguments: object) -> "Future[T]":
        """Run a task beside others, `concurrency` of them at a time."""
        return self._threads.submit(task, *arguments)

    def finished(self, tasks: "set[Future[T]]") -> "Iterator[Future[T]]":
        """The tasks as they finish; more may be added to the set meanwhile. Those left over are cancelled."""
        try:
            while tasks:
                for task in wait(tasks, return_when=FIRST_COMPLETED).done:
                    tasks.discard(task)
                    yield task
        finally:
            for task in tasks:
                task.cancel()

    def each(self, task: Callable[[S], T], arguments: Iterable[S]) -> list[T]:
        """What the task returns for each of the arguments, in their order."""
        tasks = [self.submit(task, argument) for argument in arguments]
        for done in self.finished(set(tasks)):
            done.result()
        return [done.result() for done in tasks]

    def _explanation(self, what: str, error: PineconeError, attempts: int) -> str:
        tried = f" after {attempts} attempts" if attempts > 1 else ""
        if isinstance(error, UnauthorizedError):
            # What the service says about the key is not repeated: it might be the key.
            return (
                f"Pinecone refused the key in {KEY.variable} ({what}): set a valid one, in Airflow in the connection "
                f"{KEY.connection!r}"
            )
        if isinstance(error, PineconeTimeoutError):
            waited = f"no answer within store.pinecone.timeout_seconds = {self.settings.timeout_seconds:g}"
            return f"{self.address}: {what} failed{tried}: {waited}"
        if isinstance(error, PineconeConnectionError):
            return f"{self.address} cannot be reached: {what} failed{tried}: {error.message}"
        return f"{self.address}: {what} failed{tried}: {_without_key(str(error))}"


def _without_key(text: str) -> str:
    """What the service said, less the key, should it repeat that."""
    key = os.environ.get(KEY.variable, "").strip()
    return text.replace(key, "[key]") if key else text


def _pause_seconds(error: PineconeError, attempt: int) -> float | None:
    """How long to wait before the next attempt; None where it would fail as well."""
    if isinstance(error, ApiError):
        if error.status_code not in (408, 429) and error.status_code < 500:
            return None
        with suppress(ValueError):
            told = float((error.headers or {}).get("retry-after", ""))
            # Those who were told the same do not all come back at the same moment.
            return told * random.uniform(1, 1.1) if 0 <= told <= LONGEST_RETRY_AFTER_SECONDS else None  # noqa: S311
    elif not isinstance(
        error, PineconeConnectionError | PineconeTimeoutError | ResponseParsingError | PartlyWrittenError
    ):
        return None
    longest = min(LONGEST_BACKOFF_SECONDS, FIRST_BACKOFF_SECONDS * 2**attempt)
    return random.uniform(longest / 2, longest)  # noqa: S311
