"""Weaviate's requests: repeated where a failure may pass, several under way at once, their errors in plain words."""

import logging
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

import grpc  # type: ignore[import-untyped]
import httpx
from weaviate.exceptions import WeaviateBaseError, WeaviateRetryError

from squadron.errors import StoreError
from squadron.process.backoff import wait_seconds
from squadron.stores.patience import LONGEST_WAIT_SECONDS, REFUSED_ROW_TRIES, Patience
from squadron.stores.weaviate.connection import (
    UNAUTHENTICATED,
    Connection,
    chained,
    failure,
    may_pass,
    refused_key,
    shown,
)

log = logging.getLogger(__name__)

CLIENT_ATTEMPTS = 6
"""How often the client itself sends a search or a count, within 63 seconds."""
_Part = TypeVar("_Part")
_Answer = TypeVar("_Answer")


def answered(connection: Connection, doing: str, call: Callable[[], _Answer]) -> _Answer:
    """What the call returns; it is repeated where its failure may pass, so it must be one that may be.

    Raises StoreError, saying what was being done, when it does not pass, or `deadline_seconds` or `max_retries` are
    used up. What the client has repeated by itself, searches and counts, counts for as many attempts.
    """
    settings = connection.settings
    patience = Patience(settings.deadline_seconds, settings.max_retries)
    while True:
        try:
            return call()
        except (WeaviateBaseError, httpx.TransportError, grpc.RpcError) as error:
            code, reason = failure(error)
            if code in UNAUTHENTICATED:
                raise refused_key(settings) from error
            if code == "DEADLINE_EXCEEDED":
                reason += f" (store.weaviate.timeout_seconds is {settings.timeout_seconds:g})"
            repeated = any(isinstance(link, WeaviateRetryError) for link in chained(error))
            attempts = CLIENT_ATTEMPTS if repeated else 1
            wait = patience.wait_seconds(may_pass(code, reason), attempts=attempts)
            if wait is None:
                given_up = patience.given_up("store.weaviate")
                raise StoreError(
                    f"Weaviate at {shown(settings.uri)} did not {doing}{patience.tried()}: {code}: {reason}{given_up}"
                ) from error
            log.warning("Weaviate did not %s: %s: %s. Trying again in %.1f s", doing, code, reason, wait)
            time.sleep(wait)


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


def tries(connection: Connection) -> int:
    """How often a row is sent that the server refuses."""
    most = connection.settings.max_retries
    return REFUSED_ROW_TRIES if most is None else most + 1


def pause(failures: int) -> None:
    """Wait before another attempt after so many that failed."""
    time.sleep(wait_seconds(failures, longest=LONGEST_WAIT_SECONDS))
