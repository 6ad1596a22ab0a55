"""Endpoints: the addresses that serve one model, asked in order of preference until one answers."""

import logging
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
from squadron.process.retries import pause_seconds, retried

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
    """One address that serves the model."""

    name: str
    """Host and port."""

    def answer(self, texts: list[str], purpose: str, timeout_seconds: float) -> Answer:
        """One request, not repeated. Raises an error of `failures` that says what it answered."""


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
class _Server:
    """An endpoint, and how it did."""

    endpoint: Endpoint
    ready_at: float = 0.0
    requested_pause: bool = False
    """Whether it asked itself to be left alone until then."""
    failures: int = 0
    denied: DeniedServiceError | None = None


@dataclass
class _Request:
    """A request on its way to an answer."""

    began: float
    failures: int = 0
    reason: str = ""
    unreached: bool = False
    ready_at: dict[_Server, float] = field(default_factory=dict)


class _NoneReadyError(Exception):
    """Every endpoint is to be left alone for a while."""


class Endpoints:
    """The endpoints of one model. The counters hold what all threads together did."""

    def __init__(self, service: str, endpoints: Sequence[Endpoint], limits: Limits) -> None:
        self.billed_tokens = 0
        self.answered: Counter[str] = Counter()
        self.failed: Counter[str] = Counter()
        self.names = [endpoint.name for endpoint in endpoints]
        self._service = service
        self._servers = [_Server(endpoint) for endpoint in endpoints]
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
        request = _Request(began=time.monotonic())

        def pause(error: Exception) -> float:
            paced = self._pace.reserve(amounts) if isinstance(error, BusyServiceError) else 0.0
            return max(paced, self._seconds_until_ready(request))

        return retried(
            lambda: self._attempt(request, texts, purpose, tokens),
            (BusyServiceError, DeniedServiceError, _NoneReadyError),
            pause,
            lambda seconds: _wait(seconds, stopped),
        )

    def _attempt(self, request: _Request, texts: list[str], purpose: str, tokens: int) -> Answer:
        """The answer of the most preferred endpoint that is ready. Raises what it failed with."""
        server = self._ready_server(request)
        seconds_left = max(1.0, self._deadline(request) - time.monotonic())
        try:
            answer = server.endpoint.answer(texts, purpose, min(self._limits.timeout_seconds, seconds_left))
        except BusyServiceError as busy:
            self._note_busy(server, request, busy)
            raise
        except DeniedServiceError as denied:
            self._note_denied(server, denied)
            raise
        self._note_answer(server, answer, tokens)
        return answer

    def _ready_server(self, request: _Request) -> _Server:
        now = time.monotonic()
        for server, ready_at in self._ready_times(request):
            if ready_at <= now:
                return server
        raise _NoneReadyError

    def _seconds_until_ready(self, request: _Request) -> float:
        """Seconds until the first endpoint is ready. Raises what ends the request when there will be none in time."""
        ready_times = self._ready_times(request)
        if not ready_times:
            raise DeniedServiceError("; ".join(f"{self._service} at {server.denied}" for server in self._servers))
        now, ready_at = time.monotonic(), min(ready_at for _, ready_at in ready_times)
        if ready_at > max(now, self._deadline(request)):
            raise self._given_up(request, ready_at - now)
        return ready_at - now

    def _ready_times(self, request: _Request) -> list[tuple[_Server, float]]:
        """When each endpoint that serves at all is ready, in order of preference."""
        servers = [server for server in self._servers if not server.denied]
        return [(server, max(server.ready_at, request.ready_at.get(server, 0.0))) for server in servers]

    def _deadline(self, request: _Request) -> float:
        return max(request.began, self._answered_at) + self._seconds_allowed(request)

    def _seconds_allowed(self, request: _Request) -> float:
        never_met = request.unreached and not self._answered_at
        return min(self._limits.deadline_seconds, FIRST_CONTACT_SECONDS) if never_met else self._limits.deadline_seconds

    def _given_up(self, request: _Request, seconds: float) -> BusyServiceError:
        allowed, section = self._seconds_allowed(request), f"embedding.{self._service}"
        limit = f"deadline_seconds = {allowed:g}"
        if allowed < self._limits.deadline_seconds:
            limit = f"the {allowed:g} s in which it is to answer for the first time"
        advice = f"if the service limits the rate, set {section}.tokens_per_minute or lower concurrency"
        if request.unreached:
            advice = f"if it is never reached, mend the network, or the address in {section}.base_url"
        return BusyServiceError(
            f"{self._service} at {request.reason or ' and '.join(self.names) + ' is busy'}. The request was tried "
            f"{request.failures} times and is to wait {seconds:.1f} s more, past {limit}. Run again later; {advice}",
            seconds if any(server.requested_pause for server in self._servers) else None,
        )

    def _note_busy(self, server: _Server, request: _Request, busy: BusyServiceError) -> None:
        request.failures += 1
        request.reason = f"{server.endpoint.name} {busy}"
        request.unreached = isinstance(busy, UnreachedServiceError)
        seconds = pause_seconds(request.failures, busy.retry_after)
        until = time.monotonic() + seconds
        request.ready_at[server] = until
        with self._lock:
            self.failed[server.endpoint.name] += 1
            server.failures += 1
            server.requested_pause = busy.retry_after is not None
            if server.requested_pause or server.failures >= FAILURES_TO_REST:
                server.ready_at = max(server.ready_at, until)
        log.info("%s at %s: again in %.1f s (failure %d)", self._service, request.reason, seconds, request.failures)

    def _note_denied(self, server: _Server, denied: DeniedServiceError) -> None:
        with self._lock:
            self.failed[server.endpoint.name] += 1
            server.denied = DeniedServiceError(f"{server.endpoint.name} {denied}")
        log.warning("%s at %s: it is not asked again", self._service, server.denied)

    def _note_answer(self, server: _Server, answer: Answer, tokens: int) -> None:
        with self._lock:
            self._answered_at = time.monotonic()
            server.failures = 0
            self.answered[server.endpoint.name] += 1
            self.billed_tokens += answer.tokens
        if answer.tokens:
            self._pace.correct("tokens", answer.tokens - tokens)


def _wait(seconds: float, stopped: Event) -> None:
    if stopped.wait(max(0.0, seconds)):
        raise CancelledError("another request ended the work")
