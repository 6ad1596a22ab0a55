"""OpenAI's Batch API: requests in a file, done within a day at half the price.

A request holds one text: its `custom_id` is the text's digest, so that answers find their texts, and one text that
is refused takes no other along. Limits (https://developers.openai.com/api/reference/resources/batches): 50,000
requests and 50,000 texts a batch, 200 MB a file, one model a file. Files of batches are kept for 30 days.

Nothing promises that a request to create a batch that broke off was not heard: the service's list is asked for a
batch with the job's name before one is created, and again before it is tried once more.
"""

import base64
import contextlib
import json
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

import httpx2
import numpy as np
import openai
from openai.types import Batch

from squadron.embeddings.openai_batch.batched import PENDING
from squadron.embeddings.openai_batch.jobs import KEPT_SECONDS
from squadron.embeddings.openai_embeddings import NO_CREDIT, OWN, OWN_HOST
from squadron.embeddings.remote.access import api_key, host_of, missing_key
from squadron.embeddings.remote.failures import (
    BusyServiceError,
    DeniedServiceError,
    RefusedRequestError,
    failure,
    quotable,
)
from squadron.errors import EmbeddingError
from squadron.process.retries import pause_seconds, retried
from squadron.settings.embedding_sections import OpenAISettings
from squadron.settings.known_models import width_to_ask_for

MAX_TEXTS, MAX_BYTES = 50_000, 200_000_000
NAME = "squadron_job"
"""The key of a batch's metadata that holds the name of the job."""
TRIES = 12
"""Of one request: those of the client are over after 54 s at the soonest, those of a creation after 90 s."""
ENDPOINT: Any = "/v1/embeddings"

T = TypeVar("T")


@dataclass(frozen=True)
class Result:
    """What became of one text. With a key alone it was not finished, and may be asked for again."""

    key: str
    vector: np.ndarray | None = None
    """`float32 [dimension]`, unit length."""
    tokens: int = 0
    """What the service billed for it."""
    reason: str | None = None
    """Why the service refused the text."""
    fault: str | None = None
    """Why the service will answer no text until something is changed."""


def parts(sizes: Mapping[str, int], most_texts: int = MAX_TEXTS, most_bytes: int = MAX_BYTES) -> Iterator[list[str]]:
    """Keys of texts, given with the bytes of their requests, in batches that the service takes."""
    part: list[str] = []
    room = most_bytes
    for key, size in sizes.items():
        if part and (len(part) == most_texts or size > room):
            yield part
            part, room = [], most_bytes
        part.append(key)
        room -= size
    if part:
        yield part


class BatchService:
    """The batches of one account."""

    def __init__(self, settings: OpenAISettings, dimension: int) -> None:
        self.name = host_of(settings.base_url, "embedding.openai.base_url")
        self.poll_seconds = settings.batch_poll_seconds
        self._settings = settings
        self._dimension = dimension
        self._key = api_key(OWN)
        if self._key is None and self.name == OWN_HOST:
            raise missing_key("OpenAI", OWN)
        self._client = openai.OpenAI(
            base_url=settings.base_url,
            api_key=self._key or "none",  # the client insists on one
            max_retries=TRIES,
            timeout=settings.timeout_seconds,
        )

    def line(self, key: str, text: str) -> bytes:
        """The request for one text, a line of a batch's file. Raises UnicodeEncodeError when it is not Unicode."""
        body: dict[str, Any] = {"model": self._settings.model, "input": self._settings.passage_prompt + text}
        if width := width_to_ask_for("openai", self._settings.model, self._dimension):
            body["dimensions"] = width
        request = {"custom_id": key, "method": "POST", "url": ENDPOINT, "body": body | {"encoding_format": "base64"}}
        return json.dumps(request, ensure_ascii=False).encode() + b"\n"

    def batch(self, batch_id: str) -> Batch | None:
        """A batch as it stands; None when the account has none of this id."""
        try:
            return self._answer(lambda: self._client.batches.retrieve(batch_id))
        except _UnknownError:
            return None

    def is_pending(self, batch_id: str) -> bool:
        """Whether a batch is still to be waited for."""
        batch = self.batch(batch_id)
        return batch is not None and batch.status in PENDING

    def find(self, name: str) -> Batch | None:
        """The newest batch of a job that is under way, or brought something; None if there is none."""
        oldest = time.time() - KEPT_SECONDS

        def search() -> Batch | None:
            for batch in self._client.batches.list(limit=100):
                if batch.created_at < oldest:
                    return None
                if (batch.metadata or {}).get(NAME) == name and _is_worth_something(batch):
                    return batch
            return None

        return self._answer(search)

    def submit(self, name: str, collection: str, lines: Iterable[bytes]) -> Batch:
        """A batch of these requests, or the one that the job has already."""
        if batch := self.find(name):
            return batch
        with tempfile.TemporaryFile() as file:
            file.writelines(lines)

            def upload() -> str:
                file.seek(0)
                return self._client.files.create(file=(f"squadron-{name}.jsonl", file), purpose="batch").id

            return self.create(name, collection, self._answer(upload))

    def create(self, name: str, collection: str, file_id: str) -> Batch:
        """A batch of an uploaded file, or the one that the job got from a request that seemed to fail."""
        once = self._client.with_options(max_retries=0)  # what is sent again blindly may be done twice
        failures = 0

        def request() -> Batch:
            if failures and (batch := self.find(name)):
                return batch
            return self._answer(
                lambda: once.batches.create(
                    completion_window="24h",
                    endpoint=ENDPOINT,
                    input_file_id=file_id,
                    metadata={NAME: name, "collection": collection},
                )
            )

        def pause(busy: BusyServiceError) -> float:
            nonlocal failures
            failures += 1
            if failures == TRIES:
                raise busy
            return max(busy.retry_after or 0.0, pause_seconds(failures))

        return retried(request, BusyServiceError, pause)

    def results(self, file_id: str | None) -> Iterator[Result]:
        """What an output file or an error file says of each text; nothing for a file that there is not."""
        if file_id is None:
            return
        with contextlib.ExitStack() as stack:
            opening = self._client.files.with_streaming_response.content(file_id)
            answer = self._answer(lambda: stack.enter_context(opening))
            lines = answer.iter_lines()
            while line := self._answer(lambda: next(lines, None)):
                yield self._result(json.loads(line))

    def _result(self, line: dict[str, Any]) -> Result:
        key, response = line["custom_id"], line.get("response")
        if not response:
            return Result(key)  # expired or cancelled
        body = response.get("body") or {}
        if response["status_code"] == 200:
            return self._vector(key, body["data"][0]["embedding"], (body.get("usage") or {}).get("total_tokens") or 0)
        reason = (body.get("error") or {}).get("message") if isinstance(body, dict) else body
        failed = failure(response["status_code"], quotable(reason, self._key or ""), {}, {})
        if isinstance(failed, RefusedRequestError):
            return Result(key, reason=str(failed))
        if isinstance(failed, BusyServiceError):
            return Result(key)
        return Result(key, fault=f"{self.name} {failed}. See the settings embedding.openai")

    def _vector(self, key: str, encoded: str | list[float], tokens: int) -> Result:
        vector = np.frombuffer(base64.b64decode(encoded), "<f4") if isinstance(encoded, str) else np.array(encoded)
        if vector.shape != (self._dimension,):
            fault = f"{self.name} gave a vector of {vector.size} dimensions, wanted {self._dimension}"
            return Result(
                key, fault=f"{fault}: correct embedding.openai.dimensions, or the model in config/models.toml"
            )
        length = float(np.linalg.norm(vector.astype(np.float64)))
        if not (np.isfinite(length) and length > 0):
            return Result(key, tokens=tokens, reason=f"the service gave it a vector of length {length}")
        return Result(key, (vector / length).astype(np.float32), tokens)

    def _answer(self, ask: Callable[[], T]) -> T:
        try:
            return ask()
        except openai.APIStatusError as error:
            failed = self._failure(error)
        except openai.APITimeoutError:
            failed = BusyServiceError(f"{self.name} did not answer within {self._settings.timeout_seconds:g} s")
        except (openai.APIConnectionError, httpx2.HTTPError) as error:
            cause = type(error.__cause__ or error).__name__
            failed = BusyServiceError(f"{self.name} cannot be reached, or broke off ({cause})")
        raise failed  # outside of the handlers, so that it carries along no request, and no key

    def _failure(self, error: openai.APIStatusError) -> EmbeddingError:
        setting = f"{OWN.variable}, or the Airflow connection {OWN.connection!r}"
        advice = {
            401: f"the key was refused. Correct {setting}" if self._key else f"it wants a key. Set {setting}",
            403: f"the key may not use batches. Allow it, or correct {setting}",
        }
        if error.status_code == 404:
            return _UnknownError(f"{self.name} answered 404: it has no such file or batch, or no Batch API")
        if error.code in NO_CREDIT or error.type in NO_CREDIT:
            return DeniedServiceError(f"{self.name} answered {error.status_code}: the account has no credit left")
        reason = error.body.get("message") if isinstance(error.body, dict) else error.body
        failed = failure(error.status_code, quotable(reason, self._key or ""), error.response.headers, advice)
        if isinstance(failed, BusyServiceError):
            return BusyServiceError(f"{self.name} {failed}", failed.retry_after)
        return DeniedServiceError(f"{self.name} {failed}")


class _UnknownError(DeniedServiceError):
    """The account has nothing of this name."""


def _is_worth_something(batch: Batch) -> bool:
    if batch.status in PENDING:
        return True
    return batch.status != "failed" and bool(batch.request_counts and batch.request_counts.completed)
