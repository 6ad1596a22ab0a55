"""Remote model: texts become requests, sent side by side; their answers are put in order and verified."""

from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass, field
from threading import Event

import numpy as np

from squadron.embeddings.remote.endpoints import Endpoint, Endpoints, Limits
from squadron.embeddings.remote.failures import DeniedServiceError, RefusedRequestError, RefusedTextsError

FEWEST_TEXTS = 8
"""So many texts are not worth more than one request, however many could be under way."""
HARMLESS_TEXT = "text"
Answered = Callable[[list[int], np.ndarray], None]
"""Told of each answer when it comes, by any thread: positions of texts, and their vectors, `float32 [positions, d]`."""


@dataclass
class _Job:
    """One call: distinct texts, and what became of them."""

    texts: list[str]
    purpose: str
    vectors: np.ndarray
    positions: list[int]
    """Where each text stands first among those given."""
    answered: Answered | None
    sizes: list[int] = field(default_factory=list)
    reasons: dict[int, str] = field(default_factory=dict)
    stopped: Event = field(default_factory=Event)


class RemoteModel:
    """A model behind one or more endpoints."""

    def __init__(
        self,
        service: str,
        endpoints: Sequence[Endpoint],
        dimension: int,
        limits: Limits,
        token_counts: Callable[[list[str]], list[int]],
    ) -> None:
        self._service = service
        self._endpoints = Endpoints(service, endpoints, limits)
        self._dimension = dimension
        self._limits = limits
        self._token_counts = token_counts

    def __repr__(self) -> str:
        return f"RemoteModel({self._service} at {self.device})"

    @property
    def device(self) -> str:
        """Where the model runs: the hosts of its endpoints."""
        return ", ".join(self._endpoints.names)

    @property
    def answered(self) -> Counter[str]:
        """Requests answered with vectors, by endpoint."""
        return self._endpoints.answered

    @property
    def failed(self) -> Counter[str]:
        """Requests that failed for another reason than their texts, by endpoint."""
        return self._endpoints.failed

    @property
    def billed_tokens(self) -> int:
        """Tokens that the service says it billed."""
        return self._endpoints.billed_tokens

    def embed(self, texts: list[str], purpose: str, answered: Answered | None = None) -> np.ndarray:
        """`float32 [texts, dimension]`, unit length, in the order given; equal texts are sent once.

        `answered` is told of the vectors of each request as they come: all may fail later, these are paid for.
        Raises RefusedTextsError when the service refuses some of the texts, DeniedServiceError when it serves
        none of them, BusyServiceError when it answered nothing for `deadline_seconds`.
        """
        first_positions: dict[str, int] = {}
        for position, text in enumerate(texts):
            first_positions.setdefault(text, position)
        rows = {text: row for row, text in enumerate(first_positions)}
        vectors = np.full((len(rows), self._dimension), np.nan, np.float32)
        job = _Job(list(first_positions), purpose, vectors, list(first_positions.values()), answered)
        self._embed_batches(job, self._batches(job))
        order = [rows[text] for text in texts]
        if job.reasons:
            reasons = {position: job.reasons[row] for position, row in enumerate(order) if row in job.reasons}
            raise RefusedTextsError(self._service, reasons, job.vectors[order])
        return job.vectors[order]

    def _embed_batches(self, job: _Job, batches: list[list[int]]) -> None:
        if batches and not self.answered:
            self._embed_rows(job, batches.pop(0))  # alone: a wrong key or model is to cost one request
        if not batches:
            return
        pool = ThreadPoolExecutor(min(self._limits.concurrency, len(batches)), "embedding")
        try:
            for done in as_completed([pool.submit(self._embed_rows, job, rows) for rows in batches]):
                done.result()
        except BaseException:
            job.stopped.set()
            pool.shutdown(wait=False, cancel_futures=True)
            raise
        pool.shutdown()

    def _batches(self, job: _Job) -> list[list[int]]:
        """Rows of one request each, in order: few requests, but enough of them to use the concurrency."""
        limits = self._limits
        most_texts = min(limits.batch_texts, limits.texts_per_minute or limits.batch_texts)
        if not limits.requests_per_minute:
            most_texts = min(most_texts, max(FEWEST_TEXTS, -(-len(job.texts) // limits.concurrency)))
        most_tokens = min(limits.batch_tokens, limits.tokens_per_minute or limits.batch_tokens)
        self._measure(job, most_texts, most_tokens)
        batches: list[list[int]] = []
        room = 0
        for row, size in enumerate(job.sizes):
            if row in job.reasons:
                continue
            if not batches or len(batches[-1]) == most_texts or size > room:
                batches.append([])
                room = most_tokens
            batches[-1].append(row)
            room -= size
        return batches

    def _measure(self, job: _Job, most_texts: int, most_tokens: int) -> None:
        """Tokens of each text, or its bytes where the difference does not matter: no token is shorter than one."""
        for row, text in enumerate(job.texts):
            try:
                job.sizes.append(len(text.encode()))
            except UnicodeEncodeError as error:
                job.reasons[row] = f"it is not Unicode: {error.reason} at character {error.start}"
                job.sizes.append(0)
        if self._limits.tokens_per_minute or max(job.sizes, default=0) * most_texts > most_tokens:
            sound = [row for row in range(len(job.texts)) if row not in job.reasons]
            for row, count in zip(sound, self._token_counts([job.texts[row] for row in sound]), strict=True):
                job.sizes[row] = count

    def _embed_rows(self, job: _Job, rows: list[int]) -> None:
        """The vectors of some rows; where their request is refused, those of each half, down to the text at fault."""
        texts, tokens = [job.texts[row] for row in rows], sum(job.sizes[row] for row in rows)
        try:
            answer = self._endpoints.answer(texts, job.purpose, tokens, job.stopped)
        except RefusedRequestError as error:
            refused = error
        else:
            self._keep(job, rows, answer.vectors)
            return
        if not self.answered:
            self._try_harmless_text(job, refused)
        if len(rows) == 1:
            job.reasons[rows[0]] = str(refused)
            return
        self._embed_rows(job, rows[: len(rows) // 2])
        self._embed_rows(job, rows[len(rows) // 2 :])

    def _try_harmless_text(self, job: _Job, refused: RefusedRequestError) -> None:
        """Before texts are blamed one by one: does the service take any?"""
        try:
            self._endpoints.answer([HARMLESS_TEXT], job.purpose, 1, job.stopped)
        except RefusedRequestError:
            raise DeniedServiceError(
                f"{self._service} refuses whatever it is asked, {HARMLESS_TEXT!r} too: {refused}. "
                f"See the settings embedding.{self._service}"
            ) from None

    def _keep(self, job: _Job, rows: list[int], vectors: np.ndarray) -> None:
        """Put vectors in their places, at unit length. One without a direction is as good as refused."""
        if vectors.shape != (len(rows), self._dimension):
            raise DeniedServiceError(
                f"{self._service} gave {vectors.shape[0]} vectors of {vectors.shape[1]} dimensions for {len(rows)} "
                f"texts, wanted {self._dimension} dimensions: correct embedding.{self._service}.dimensions, or the "
                "model in config/models.toml"
            )
        lengths = np.linalg.norm(vectors.astype(np.float64), axis=1, keepdims=True)
        sound = (np.isfinite(lengths) & (lengths > 0)).ravel()
        for line in np.flatnonzero(~sound):
            job.reasons[rows[line]] = f"the service gave it a vector of length {lengths[line, 0]}"
        sound_rows = np.array(rows)[sound]
        job.vectors[sound_rows] = vectors[sound] / lengths[sound]
        if job.answered and len(sound_rows):
            job.answered([job.positions[row] for row in sound_rows], job.vectors[sound_rows])
