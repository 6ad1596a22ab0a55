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
from squadron.settings.credentials import CREDENTIALS
from squadron.settings.store_sections import PineconeSettings
from squadron.stores.patience import Patience

S = TypeVar("S")
T = TypeVar("T")

log = logging.getLogger(__name__)

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
        patience = Patience(self.settings.deadline_seconds, self.settings.max_retries)
        while True:
            try:
                return request()
            except passing:
                raise
            except PineconeError as error:
                pause = patience.wait_seconds(_may_pass(error), _asked_seconds(error))
                if pause is None:
                    shows_key = _without_key(str(error)) != str(error)
                    raise StoreError(self._explanation(what, error, patience)) from None if shows_key else error
                log.warning("%s. Trying again in %.1f s", self._explanation(what, error, patience), pause)
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

    def _explanation(self, what: str, error: PineconeError, patience: Patience) -> str:
        tried, given_up = patience.tried(), patience.given_up("store.pinecone")
        if isinstance(error, UnauthorizedError):
            # What the service says about the key is not repeated: it might be the key.
            return (
                f"Pinecone refused the key in {KEY.variable} ({what}): set a valid one, in Airflow in the connection "
                f"{KEY.connection!r}"
            )
        if isinstance(error, PineconeTimeoutError):
            waited = f"no answer within store.pinecone.timeout_seconds = {self.settings.timeout_seconds:g}"
            return f"{self.address}: {what} failed{tried}: {waited}{given_up}"
        if isinstance(error, PineconeConnectionError):
            return f"{self.address} cannot be reached: {what} failed{tried}: {error.message}{given_up}"
        return f"{self.address}: {what} failed{tried}: {_without_key(str(error))}{given_up}"


def _without_key(text: str) -> str:
    """What the service said, less the key, should it repeat that."""
    key = os.environ.get(KEY.variable, "").strip()
    return text.replace(key, "[key]") if key else text


def _may_pass(error: PineconeError) -> bool:
    if isinstance(error, ApiError):
        return error.status_code in (408, 429) or error.status_code >= 500
    broken_off = (PineconeConnectionError, PineconeTimeoutError, ResponseParsingError, PartlyWrittenError)
    return isinstance(error, broken_off)


def _asked_seconds(error: PineconeError) -> float | None:
    """What the service asks to wait, if it does."""
    headers = error.headers if isinstance(error, ApiError) else None
    with suppress(ValueError):
        asked = float((headers or {}).get("retry-after", ""))
        return asked if asked >= 0 else None
    return None
