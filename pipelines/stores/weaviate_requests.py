"""Weaviate's requests: repeated where a failure may pass, several under way at once, their errors in plain words."""

import itertools
import logging
import random
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

import grpc  # type: ignore[import-untyped]
import httpx
from weaviate.exceptions import WeaviateBaseError, WeaviateRetryError

from pipelines.errors import StoreError
from pipelines.stores.weaviate_connection import UNAUTHENTICATED, Connection, chained, failure, refused_key, shown

log = logging.getLogger(__name__)

FIRST_PAUSE_SECONDS, LONGEST_PAUSE_SECONDS = 0.5, 10.0
_PASSING = {429, 502, 503, 504, "UNAVAILABLE", "DEADLINE_EXCEEDED", "RESOURCE_EXHAUSTED", "ABORTED"}
_Part = TypeVar("_Part")
_Answer = TypeVar("_Answer")


def answered(connection: Connection, doing: str, call: Callable[[], _Answer]) -> _Answer:
    """What the call returns; it is repeated where its failure may pass, so it must be one that may be.

    Raises StoreError, saying what was being done, when it does not pass or `max_retries` are used up. What the client
    has repeated by itself, for a minute, is not repeated again: searches and counts of a server that is not available.
    """
    for attempt in itertools.count():
        try:
            return call()
        except (WeaviateBaseError, httpx.TransportError, grpc.RpcError) as error:
            code, reason = failure(error)
            if code in UNAUTHENTICATED:
                raise refused_key(connection.settings) from error
            repeated = any(isinstance(link, WeaviateRetryError) for link in chained(error))
            if code == "DEADLINE_EXCEEDED":
                reason += f" (store.weaviate.timeout_seconds is {connection.settings.timeout_seconds:g})"
            passing = code in _PASSING and "larger than max" not in reason and not repeated
            if not passing or attempt == connection.settings.max_retries:
                after = f" after {attempt + 1} attempts" if attempt else ""
                raise StoreError(
                    f"Weaviate at {shown(connection.settings.uri)} did not {doing}{after}: {code}: {reason}"
                ) from error
            log.warning("Weaviate did not %s: %s: %s. Trying again", doing, code, reason)
            pause(attempt)
    raise AssertionError


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


def pause(attempt: int) -> None:
    """Wait before another attempt: longer each time, and not all workers equally long."""
    longest = min(FIRST_PAUSE_SECONDS * 2**attempt, LONGEST_PAUSE_SECONDS)
    time.sleep(longest * random.uniform(0.5, 1))  # noqa: S311 - nothing secret about it
