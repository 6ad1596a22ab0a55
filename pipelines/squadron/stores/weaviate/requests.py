"""Weaviate's requests: repeated where a failure may pass, several under way at once, their errors in plain words."""

from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

import grpc  # type: ignore[import-untyped]
import httpx
from weaviate.exceptions import WeaviateBaseError, WeaviateRetryError

from squadron.errors import StoreError
from squadron.process.retries import LONGEST_STORE_PAUSE_SECONDS, Failure, Retries, pause_seconds, retried
from squadron.settings.addresses import without_user
from squadron.stores.weaviate.connection import Connection
from squadron.stores.weaviate.failures import UNAUTHENTICATED, chained, failure, may_pass, refused_key

CLIENT_ATTEMPTS = 6
"""How often the client itself sends a search or a count, within 63 seconds."""
REFUSED_ROW_TRIES = 6
"""How often a row is sent that the server itself refuses. The server is there, so few attempts are enough."""
_Part = TypeVar("_Part")
_Answer = TypeVar("_Answer")


class RefusedRowsError(StoreError):
    """The server answered, and refused some of the rows."""

    def __init__(self, reasons: dict[str, str]) -> None:
        super().__init__("; ".join(sorted(set(reasons.values()))))
        self.reasons = reasons
        """Id of each row that was refused -> what the server says."""


def answered(connection: Connection, doing: str, call: Callable[[], _Answer]) -> _Answer:
    """What the call returns. It is repeated where its failure may pass, so it must have the same result when repeated.

    Raises StoreError, saying what was being done, when it does not pass, or `deadline_seconds` or `max_retries` are
    used up. What the client has repeated by itself, searches and counts, counts for as many attempts.
    """
    settings = connection.settings

    def failed(error: Exception) -> Failure:
        code, reason = failure(error)
        if code in UNAUTHENTICATED:
            raise refused_key(settings, bool(connection.headers)) from error
        if code == "DEADLINE_EXCEEDED":
            reason += f" (store.weaviate.timeout_seconds is {settings.timeout_seconds:g})"
        repeated = any(isinstance(link, WeaviateRetryError) for link in chained(error))
        attempt = f"Weaviate at {without_user(settings.uri)} did not {doing}"
        attempts = CLIENT_ATTEMPTS if repeated else 1
        return Failure(attempt, f"{code}: {reason}", may_pass(code, reason), attempts=attempts)

    retries = Retries("store.weaviate", settings.deadline_seconds, settings.max_retries)
    return retries.answer(call, (WeaviateBaseError, httpx.TransportError, grpc.RpcError), failed, StoreError)


def called(connection: Connection, doing: str, method: str, request: Any) -> Any:
    """The answer of one of the stub's methods."""
    call = getattr(connection.stub, method)
    timeout, headers = connection.settings.timeout_seconds, connection.headers
    return answered(connection, doing, lambda: call(request, timeout=timeout, metadata=headers))


def at_once(connection: Connection, work: Callable[[_Part], _Answer], parts: Iterable[_Part]) -> Iterator[_Answer]:
    """What the work makes of each part, in their order; at most `concurrency` are under way. A failure ends it."""
    with ThreadPoolExecutor(connection.settings.concurrency, thread_name_prefix="weaviate") as threads:
        futures = [threads.submit(work, part) for part in parts]
        try:
            for future in futures:
                yield future.result()
        finally:
            for future in futures:
                future.cancel()


def repeated_while_refused(connection: Connection, call: Callable[[], _Answer]) -> _Answer:
    """What the call returns; it is repeated, at most `max_retries` times, while the server refuses some of its rows.

    Raises RefusedRowsError when it still does.
    """
    configured = connection.settings.max_retries
    max_retries, attempts = REFUSED_ROW_TRIES - 1 if configured is None else configured, 0

    def pause(error: RefusedRowsError) -> float:
        nonlocal attempts
        attempts += 1
        if attempts > max_retries:
            raise error
        return pause_seconds(attempts, longest_seconds=LONGEST_STORE_PAUSE_SECONDS)

    return retried(call, RefusedRowsError, pause)
