"""A trigger that waits for OpenAI's batches, so that a task that waits for a day holds no worker.

The triggerer imports this file by its stem; a DAG's folder would not be on its path. Airflow writes a trigger's
arguments into its database, so the key is not among them: the triggerer reads it from the Connection `openai_default`
or the environment.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import AsyncIterator
from typing import TYPE_CHECKING, Any

from airflow.triggers.base import BaseTrigger, TriggerEvent

if TYPE_CHECKING:
    from openai import AsyncOpenAI


class BatchesEnded(BaseTrigger):
    """Fires when no batch is under way any more, when the time is over, or when the service refuses to answer.

    The event says only that it is time to look: the task finds out what became of the batches.
    """

    def __init__(
        self, base_url: str, batches: list[str], wait_seconds: float, poll_seconds: float, limit_seconds: float
    ) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.base_url, self.batches = base_url, batches
        self.wait_seconds, self.poll_seconds, self.limit_seconds = wait_seconds, poll_seconds, limit_seconds
        self._statuses: dict[str, str] = {}

    def serialize(self) -> tuple[str, dict[str, Any]]:
        """The class and its arguments, from which any triggerer makes it again."""
        names = ("base_url", "batches", "wait_seconds", "poll_seconds", "limit_seconds")
        return "openai_batch_wait.BatchesEnded", {name: getattr(self, name) for name in names}

    async def run(self) -> AsyncIterator[TriggerEvent]:
        """One event, after `wait_seconds` and at most `limit_seconds` more."""
        key = await _api_key()
        await asyncio.sleep(self.wait_seconds)
        pending, deadline = list(self.batches), time.monotonic() + self.limit_seconds
        async with await asyncio.to_thread(_client, self.base_url, key) as client:  # importing it takes a while
            while pending and time.monotonic() < deadline:
                await asyncio.sleep(self.poll_seconds)
                pending = [batch for batch in pending if await self._is_pending(client, batch)]
        yield TriggerEvent({"batches": self.batches})

    async def _is_pending(self, client: AsyncOpenAI, batch: str) -> bool:
        import openai

        from squadron.embeddings.openai_batch.batched import PENDING

        try:
            status: str = (await client.batches.retrieve(batch)).status
        except openai.APIStatusError as error:
            self.log.warning("batch %s: the service answered %d", batch, error.status_code)
            return error.status_code not in (401, 403, 404)  # the task says what is wrong
        except openai.APIConnectionError:
            self.log.warning("batch %s: the service cannot be reached", batch)
            return True
        if self._statuses.get(batch) != status:
            self._statuses[batch] = status
            self.log.info("batch %s: %s", batch, status)
        return status in PENDING


async def _api_key() -> str | None:
    from airflow.sdk import BaseHook
    from airflow.sdk.exceptions import AirflowNotFoundException

    from squadron.settings.credentials import CREDENTIALS

    credential = CREDENTIALS["openai"]
    try:
        key = (await BaseHook.aget_connection(credential.connection)).password
    except AirflowNotFoundException:
        key = None
    return key or os.environ.get(credential.variable)


def _client(base_url: str, key: str | None) -> AsyncOpenAI:
    import openai

    return openai.AsyncOpenAI(base_url=base_url, api_key=(key or "none").strip())
