"""Requests to Pinecone: repeated within bounds, explained when they fail, several at a time."""

import logging
import os
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

from squadron.errors import StoreError
from squadron.process.retries import Failure, Retries
from squadron.settings.credentials import CREDENTIALS
from squadron.settings.store_sections import PineconeSettings

S = TypeVar("S")
T = TypeVar("T")

KEY = CREDENTIALS["pinecone"]

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
        """The answer to a request, repeated for `deadline_seconds` while the service is busy or cannot be reached.

        Raises StoreError, with what was done and why it failed; errors that are `passing` are raised as they are.
        """
        retries = Retries("store.pinecone", self.settings.deadline_seconds, self.settings.max_retries)

        def failure(error: PineconeError) -> Failure:
            if isinstance(error, passing):
                raise error
            return self._failure(what, error)

        return retries.answer(request, PineconeError, failure, StoreError)

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

    def _failure(self, what: str, error: PineconeError) -> Failure:
        attempt, reason = f"{self.address}: {what} failed", _without_key(str(error))
        if isinstance(error, UnauthorizedError):
            # What the service says about the key is not repeated: it might be the key.
            attempt = f"Pinecone refused the key in {KEY.variable} ({what})"
            reason = f"set a valid one, in Airflow in the connection {KEY.connection!r}"
        elif isinstance(error, PineconeTimeoutError):
            reason = f"no answer within store.pinecone.timeout_seconds = {self.settings.timeout_seconds:g}"
        elif isinstance(error, PineconeConnectionError):
            attempt, reason = f"{self.address} cannot be reached: {what} failed", error.message
        shows_key = _without_key(str(error)) != str(error)
        return Failure(attempt, reason, _may_pass(error), _retry_after_seconds(error), shows_secret=shows_key)


def _without_key(text: str) -> str:
    """What the service said, less the key, should it repeat that."""
    key = os.environ.get(KEY.variable, "").strip()
    return text.replace(key, "[key]") if key else text


def _may_pass(error: PineconeError) -> bool:
    if isinstance(error, ApiError):
        return error.status_code in (408, 429) or error.status_code >= 500
    broken_off = (PineconeConnectionError, PineconeTimeoutError, ResponseParsingError, PartlyWrittenError)
    return isinstance(error, broken_off)


def _retry_after_seconds(error: PineconeError) -> float | None:
    """What the service asks to wait, if it does."""
    headers = error.headers if isinstance(error, ApiError) else None
    with suppress(ValueError):
        seconds = float((headers or {}).get("retry-after", ""))
        return seconds if seconds >= 0 else None
    return None
