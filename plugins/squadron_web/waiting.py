"""Waiting: stores and models are waited for in a few threads of the page's own.

A store that hangs then takes none of the threads that the rest of Airflow is served by.
"""

import functools
from collections.abc import Callable
from typing import Any

import anyio

THREADS = anyio.CapacityLimiter(4)


def apart(answer: Callable[..., Any]) -> Callable[..., Any]:
    """The endpoint in one of these threads."""

    @functools.wraps(answer)
    async def endpoint(**given: Any) -> Any:
        return await anyio.to_thread.run_sync(functools.partial(answer, **given), limiter=THREADS)

    return endpoint
