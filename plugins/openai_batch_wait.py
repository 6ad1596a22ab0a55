"""Waits for OpenAI's batches in the triggerer, so that a task that waits for a day holds no worker.

The triggerer imports this file by its stem; a DAG's folder would not be on its path. What is waited for is written
down in Airflow's database, so the key is not part of it: it is read where the waiting is done, from the Connection
`openai_default` or the environment.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import AsyncIterator
from typing import Any

from airflow.triggers.base import BaseTrigger, TriggerEvent


class BatchesEnded(BaseTrigger):
    """Fires when none of the batches is under way any more, or the time is over, or asking cannot help.

    What became of them is for the task to find out: the event says no more than that it is time to look.
    """

    def __init__(
        self, base_url: str, batches: list[str], wait_seconds: float, poll_seconds: float, limit_seconds: float
    ) -> None:
        super().__init__()
        self.base_url, self.batches = base_url, batches
        self.wait_seconds, self.poll_seconds, self.limit_seconds = wait_seconds, poll_seconds, limit_seconds
        self._seen: dict[str, str] = {}

    def serialize(self) -> tuple[str, dict[str, Any]]:
        """The class and what it is made from again, on any triggerer."""
        names = ("base_url", "batches", "wait_seconds", "poll_seconds", "limit_seconds")
        return "openai_batch_wait.BatchesEnded", {name: getattr(self, name) for name in names}

    async def run(self) -> AsyncIterator[TriggerEvent]:
        """One event, after `wait_seconds` and at most `limit_seconds` more."""
        key = await _api_key()
        await asyncio.sleep(self.wait_seconds)
        pending, until = list(self.batches), time.monotonic() + self.limit_seconds
        async with await asyncio.to_thread(_client, self.base_url, key) as client:  # importing it takes a while
            while pending and time.monotonic() < until:
                await asyncio.sleep(self.poll_seconds)
                pending = [batch for batch in pending if await self._is_pending(client, batch)]
        yield TriggerEvent({"batches": self.batches})

    async def _is_pending(self, client: Any, batch: str) -> bool:
        import openai

        from squadron.embeddings.openai_batch.batched import PENDING

        try:
            found = await client.batches.retrieve(batch)
        except openai.APIStatusError as error:
            self.log.warning("batch %s: asking for it was answered %d", batch, error.status_code)
            return error.status_code not in (401, 403, 404)  # the task will say what is wrong
        except openai.APIConnectionError:
            self.log.warning("batch %s: the service cannot be reached", batch)
            return True
        if self._seen.get(batch) != found.status:
            self._seen[batch] = found.status
            self.log.info("batch %s: %s", batch, found.status)
        return found.status in PENDING


async def _api_key() -> str | None:
    from airflow.exceptions import AirflowNotFoundException
    from airflow.sdk import BaseHook

    from squadron.settings.credentials import CREDENTIALS

    credential = CREDENTIALS["openai"]
    try:
        found = (await BaseHook.aget_connection(credential.connection)).password
    except AirflowNotFoundException:
        found = None
    return found or os.environ.get(credential.variable)


def _client(base_url: str, key: str | None) -> Any:
    import openai

    return openai.AsyncOpenAI(base_url=base_url, api_key=(key or "none").strip())
