"""What our servers of embedding services have in common: limits, faults, counts, and vectors."""

import base64
import re
import time
from collections import Counter
from dataclasses import dataclass
from functools import lru_cache
from hashlib import blake2b
from threading import Barrier, Lock
from typing import Any
from urllib.parse import parse_qs, urlsplit

import numpy as np
import orjson

from tests.wire.loopback import LoopbackHandler, LoopbackServer


class Refusal(Exception):  # noqa: N818
    """An answer that is an error."""

    def __init__(self, status: int, body: dict[str, Any], headers: dict[str, str] | None = None) -> None:
        super().__init__(status)
        self.status, self.body, self.headers = status, body, headers or {}


@dataclass(frozen=True)
class Seen:
    """A request that came in."""

    line: str
    """`METHOD /path`, without the query."""
    texts: tuple[str, ...]
    body: dict[str, Any]
    query: dict[str, list[str]]


class Budget:
    """A limit per minute that refills continuously; a whole minute's worth may be spent at once."""

    def __init__(self, per_minute: int | None, burst_seconds: float = 60.0) -> None:
        self.per_minute = per_minute
        self._full = (per_minute or 0) / 60 * burst_seconds
        self._left, self._at = self._full, time.monotonic()
        self._lock = Lock()

    def take(self, amount: int) -> float:
        """0 when the amount is granted, else the seconds after which it will be."""
        if not self.per_minute:
            return 0.0
        with self._lock:
            now = time.monotonic()
            self._left = min(self._full, self._left + (now - self._at) * self.per_minute / 60)
            self._at = now
            if amount <= self._left:
                self._left -= amount
                return 0.0
            return (amount - self._left) * 60 / self.per_minute

    @property
    def left(self) -> int:
        return int(self._left)


class EmbeddingServer(LoopbackServer):
    """A service at `server.url`."""

    def __init__(
        self,
        key: str | None = None,
        port: int = 0,
        latency_seconds: float = 0.0,
        requests_per_minute: int | None = None,
        texts_per_minute: int | None = None,
        tokens_per_minute: int | None = None,
        burst_seconds: float = 60.0,
    ) -> None:
        super().__init__(_Handler, port)
        self.key = key
        self.latency_seconds = latency_seconds
        self.budgets = {
            "requests": Budget(requests_per_minute, burst_seconds),
            "texts": Budget(texts_per_minute, burst_seconds),
            "tokens": Budget(tokens_per_minute, burst_seconds),
        }
        self.refused: set[str] = set()
        """Texts to refuse, and with each the request that holds it."""
        self.pointless: set[str] = set()
        """Texts to give a vector of NaN."""
        self.knows_base64 = True
        self.width: int | None = None
        """Give vectors of this width, whatever was asked for."""
        self.renewed = ""
        """Another text stands for another model under the same name."""
        self.lost = 0
        """Leave out so many vectors of each answer."""
        self.meeting: Barrier | None = None
        """Answer only when so many requests are in flight."""
        self.in_flight = 0
        self.most_in_flight = 0
        self.cheap = False
        """Make vectors by chance, quickly, and keep nothing: for measuring clients."""
        self.seen: list[Seen] = []
        self.embedded: Counter[str] = Counter()
        """How often each text was given a vector."""
        self.billed_tokens = 0
        self.answered = 0

    def texts_of(self, body: dict[str, Any]) -> list[str]:
        """The texts of a request."""
        raise NotImplementedError

    def authorized(self, headers: dict[str, str]) -> None:
        """Raise Refusal unless the key is right."""
        raise NotImplementedError

    def answer(self, path: str, body: dict[str, Any]) -> tuple[dict[str, Any], dict[str, str]]:
        """JSON and headers for a request. Raises Refusal."""
        raise NotImplementedError

    def note(self, texts: list[str], tokens: int) -> None:
        """Count texts that got their vectors."""
        with self.lock:
            self.answered += 1
            self.billed_tokens += tokens
            if not self.cheap:
                self.embedded.update(texts)

    def vectors(self, texts: list[str], dimension: int, salt: str, scale: float = 1.0) -> np.ndarray:
        """The vectors of texts: sums of what their words stand for, so that texts that share words are near."""
        if self.cheap:
            return np.random.default_rng(len(texts[0])).normal(size=(len(texts), dimension)).astype(np.float32)
        salt = salt + self.renewed
        vectors = np.array([_vector(text, self.width or dimension, salt) for text in texts]) * np.float32(scale)
        vectors[[text in self.pointless for text in texts]] = np.nan
        return vectors[: len(texts) - self.lost]


def encoded(vectors: np.ndarray, form: str) -> list[Any]:
    """Vectors as an answer holds them: base64 of little-endian floats, or digits."""
    if form == "base64":
        return [base64.b64encode(vector.astype("<f4").tobytes()).decode() for vector in vectors]
    return [[None if np.isnan(value) else float(value) for value in vector] for vector in vectors]


def _vector(text: str, dimension: int, salt: str) -> np.ndarray:
    vector = np.zeros(dimension, np.float32)
    for word in re.findall(r"\w+|[^\w\s]", text.lower()) or [text]:
        places, signs = _places(word, salt)
        vector[places % dimension] += signs
    vector[_places(text, salt)[0] % dimension] += 0.01  # no two texts have the same vector
    return vector / np.linalg.norm(vector)


@lru_cache(maxsize=200_000)
def _places(word: str, salt: str) -> tuple[np.ndarray, np.ndarray]:
    digest = blake2b(word.encode("utf-8", "surrogatepass"), digest_size=16, key=salt.encode()[:64]).digest()
    numbers = np.frombuffer(digest, np.uint32)
    return numbers >> 1, np.where(numbers & 1, 1, -1).astype(np.float32)


class _Handler(LoopbackHandler):
    def do_POST(self) -> None:  # noqa: N802
        service = self.server.service
        self.arrived = time.monotonic()
        raw = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        url = urlsplit(self.path)
        line = f"{self.command} {url.path}"
        body = orjson.loads(raw)
        with service.lock:
            service.in_flight += 1
            service.most_in_flight = max(service.most_in_flight, service.in_flight)
            if not service.cheap:
                service.seen.append(Seen(line, tuple(service.texts_of(body)), body, parse_qs(url.query)))
        try:
            self._answer(service, line, body)
        finally:
            with service.lock:
                service.in_flight -= 1

    def _answer(self, service: EmbeddingServer, line: str, body: dict[str, Any]) -> None:
        fault = service.faults.of(line)
        if service.meeting:
            service.meeting.wait(timeout=30)
        if fault:
            service.stopped.wait(fault.delay_seconds)
        try:
            service.authorized({name.lower(): value for name, value in self.headers.items()})
            if fault and fault.status:
                return self.reply(fault.status, fault.body.encode(), dict(fault.headers))
            found, headers = service.answer(line.partition(" ")[2], body)
            self.reply(200, orjson.dumps(found), headers, cut=bool(fault and fault.dropped))
        except Refusal as refusal:
            self.reply(refusal.status, orjson.dumps(refusal.body), refusal.headers)

    def reply(self, status: int, body: bytes, headers: dict[str, str], cut: bool = False) -> None:
        latency = self.server.service.latency_seconds  # of the whole answer, however long it took to make
        self.server.service.stopped.wait(max(0.0, self.arrived + latency - time.monotonic()))
        super().reply(status, body, headers, cut)
