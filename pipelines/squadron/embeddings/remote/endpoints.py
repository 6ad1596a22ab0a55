"""Endpoints: the places that serve one model, asked in order of preference until one answers."""

import logging
import random
import time
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import CancelledError
from dataclasses import dataclass, field
from threading import Event, Lock
from typing import NamedTuple, Protocol

import numpy as np

from squadron.embeddings.remote.failures import BusyServiceError, DeniedServiceError, UnreachedServiceError
from squadron.embeddings.remote.pacing import Pace
from squadron.process.backoff import wait_seconds

log = logging.getLogger(__name__)

FAILURES_TO_REST = 3
"""So many failures in a row, and an endpoint is left alone by all requests, not only by those that failed."""
FIRST_CONTACT_SECONDS = 120.0
"""For so long a service is tried that cannot be reached and never was: its address may be wrong."""


class Answer(NamedTuple):
    """What an endpoint answered."""

    vectors: np.ndarray
    """`float32 [texts, width]`, in the order of the texts."""
    tokens: int
    """Tokens that the service says it billed, 0 if it says nothing."""


class Endpoint(Protocol):
    """One place that serves the model."""

    name: str
    """Host and port."""

    def answer(self, texts: list[str], purpose: str, timeout_seconds: float) -> Answer:
        """One request, not repeated. Raises an error of `retrying` that tells what the place answered."""


@dataclass(frozen=True)
class Limits:
    """How much is sent, and for how long it is tried."""

    batch_texts: int
    batch_tokens: int
    concurrency: int
    requests_per_minute: int | None
    texts_per_minute: int | None
    tokens_per_minute: int | None
    timeout_seconds: float
    deadline_seconds: float


@dataclass(eq=False)
class _Place:
    """An endpoint, and how it did."""

    endpoint: Endpoint
    ready_at: float = 0.0
    asked: bool = False
    """Whether it asked itself to be left alone until then."""
    failures: int = 0
    denied: DeniedServiceError | None = None


@dataclass
class _Attempt:
    """A request on its way to an answer."""

    began: float
    failures: int = 0
    reason: str = ""
    unreached: bool = False
    ready_at: dict[_Place, float] = field(default_factory=dict)


class Endpoints:
    """The endpoints of one model. The counters hold what all threads together did."""

    def __init__(self, service: str, endpoints: Sequence[Endpoint], limits: Limits) -> None:
        self.tokens_billed = 0
        self.answered: Counter[str] = Counter()
        self.failed: Counter[str] = Counter()
        self.names = [endpoint.name for endpoint in endpoints]
        self._service = service
        self._places = [_Place(endpoint) for endpoint in endpoints]
        self._limits = limits
        self._pace = Pace(
            {
                "requests": limits.requests_per_minute,
                "texts": limits.texts_per_minute,
                "tokens": limits.tokens_per_minute,
            }
        )
        self._answered_at = 0.0
        self._lock = Lock()

    def answer(self, texts: list[str], purpose: str, tokens: int, stopped: Event) -> Answer:
        """The first answer that an endpoint gives; `stopped` ends the trying.

        Raises RefusedRequestError when the texts are refused, DeniedServiceError when all endpoints refuse to
        serve, BusyServiceError when nothing was answered for `deadline_seconds`.
        """
        amounts = {"requests": 1, "texts": len(texts), "tokens": tokens}
        _wait(self._pace.reserve(amounts), stopped)
        attempt = _Attempt(began=time.monotonic())
        while True:
            place = self._ready_place(attempt, stopped)
            seconds_left = max(1.0, self._deadline(attempt) - time.monotonic())
            try:
                answer = place.endpoint.answer(texts, purpose, min(self._limits.timeout_seconds, seconds_left))
            except BusyServiceError as busy:
                self._note_busy(place, attempt, busy)
                _wait(self._pace.reserve(amounts), stopped)
            except DeniedServiceError as denied:
                self._note_denied(place, denied)
            else:
                self._note_answer(place, answer, tokens)
                return answer

    def _ready_place(self, attempt: _Attempt, stopped: Event) -> _Place:
        """The most preferred endpoint that is ready, after waiting for one if need be."""
        while True:
            places = [place for place in self._places if not place.denied]
            if not places:
                raise DeniedServiceError("; ".join(f"{self._service} at {place.denied}" for place in self._places))
            now = time.monotonic()
            ready_at = [max(place.ready_at, attempt.ready_at.get(place, 0.0)) for place in places]
            for place, at in zip(places, ready_at, strict=True):
                if at <= now:
                    return place
            if min(ready_at) > self._deadline(attempt):
                raise self._given_up(attempt, min(ready_at) - now)
            _wait(min(ready_at) - now, stopped)

    def _deadline(self, attempt: _Attempt) -> float:
        return max(attempt.began, self._answered_at) + self._seconds_allowed(attempt)

    def _seconds_allowed(self, attempt: _Attempt) -> float:
        never_met = attempt.unreached and not self._answered_at
        return min(self._limits.deadline_seconds, FIRST_CONTACT_SECONDS) if never_met else self._limits.deadline_seconds

    def _given_up(self, attempt: _Attempt, seconds: float) -> BusyServiceError:
        allowed, section = self._seconds_allowed(attempt), f"embedding.{self._service}"
        limit = f"deadline_seconds = {allowed:g}"
        if allowed < self._limits.deadline_seconds:
            limit = f"the {allowed:g} s in which it is to answer for the first time"
        advice = f"if the service limits the rate, set {section}.tokens_per_minute or lower concurrency"
        if attempt.unreached:
            advice = f"if it is never reached, mend the network, or the address in {section}.base_url"
        return BusyServiceError(
            f"{self._service} at {attempt.reason or ' and '.join(self.names) + ' is busy'}. The request was tried "
            f"{attempt.failures} times and is to wait {seconds:.1f} s more, past {limit}. Run again later; {advice}",
            seconds if any(place.asked for place in self._places) else None,
        )

    def _note_busy(self, place: _Place, attempt: _Attempt, busy: BusyServiceError) -> None:
        attempt.failures += 1
        attempt.reason = f"{place.endpoint.name} {busy}"
        attempt.unreached = isinstance(busy, UnreachedServiceError)
        if busy.retry_after is None:
            seconds = wait_seconds(attempt.failures)
        else:  # what it asks, and more if it asks again and again
            asked = busy.retry_after * random.uniform(1.0, 1.1)  # noqa: S311 - it keeps no secret
            seconds = max(asked, wait_seconds(attempt.failures, first=0.02))
        until = time.monotonic() + seconds
        attempt.ready_at[place] = until
        with self._lock:
            self.failed[place.endpoint.name] += 1
            place.failures += 1
            place.asked = busy.retry_after is not None
            if place.asked or place.failures >= FAILURES_TO_REST:
                place.ready_at = max(place.ready_at, until)
        log.info("%s at %s: again in %.1f s (failure %d)", self._service, attempt.reason, seconds, attempt.failures)

    def _note_denied(self, place: _Place, denied: DeniedServiceError) -> None:
        with self._lock:
            self.failed[place.endpoint.name] += 1
            place.denied = DeniedServiceError(f"{place.endpoint.name} {denied}")
        log.warning("%s at %s: it is not asked again", self._service, place.denied)

    def _note_answer(self, place: _Place, answer: Answer, tokens: int) -> None:
        with self._lock:
            self._answered_at = time.monotonic()
            place.failures = 0
            self.answered[place.endpoint.name] += 1
            self.tokens_billed += answer.tokens
        if answer.tokens:
            self._pace.correct("tokens", answer.tokens - tokens)


def _wait(seconds: float, stopped: Event) -> None:
    if stopped.wait(max(0.0, seconds)):
        raise CancelledError("another request ended the work")
