"""Thread pool: the page waits for stores and models in a few threads of its own.

A store that hangs then blocks none of the threads that serve the rest of Airflow.
"""

import functools
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

import anyio

THREADS = anyio.CapacityLimiter(4)
Answer = TypeVar("Answer")


def in_own_thread(endpoint: Callable[..., Answer]) -> Callable[..., Awaitable[Answer]]:
    """Run the endpoint in one of these threads."""

    @functools.wraps(endpoint)
    async def async_endpoint(**arguments: Any) -> Answer:
        return await anyio.to_thread.run_sync(functools.partial(endpoint, **arguments), limiter=THREADS)

    return async_endpoint
