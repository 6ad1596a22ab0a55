"""Faults: what a server of ours does wrong on request, described for any service that answers HTTP."""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from threading import Lock


@dataclass
class Fault:
    """What becomes of some requests. Without further words a request is answered as usual."""

    requests: str
    """Which: a regular expression, searched for in `METHOD /path`."""
    times: int | None = None
    """How many of them; None: all."""
    every: int = 1
    """One of so many."""
    status: int | None = None
    """Refuse with this HTTP status."""
    headers: Mapping[str, str] = field(default_factory=dict)
    """Headers of the refusal."""
    body: str = ""
    """Text of the refusal."""
    dropped: bool = False
    """Do what was asked, but cut the connection in the middle of the answer."""
    delay_seconds: float = 0.0
    """Answer that much later."""
    rows: int | None = None
    """Take only so many rows of a write, and say so in the answer."""
    meanwhile: Callable[[], object] | None = None
    """What another client does before the request is answered."""
    seen: int = 0
    """Requests that matched."""
    done: int = 0
    """Requests that it befell."""


class Faults:
    """The faults of a server. The first that applies to a request befalls it."""

    def __init__(self) -> None:
        self._faults: list[Fault] = []
        self._lock = Lock()

    def add(self, requests: str, **what: object) -> Fault:
        """Let a fault befall matching requests from now on; its `done` tells how often it did."""
        fault = Fault(requests, **what)  # type: ignore[arg-type]
        with self._lock:
            self._faults.append(fault)
        return fault

    def clear(self) -> None:
        """Answer everything as usual from now on."""
        with self._lock:
            self._faults.clear()

    def of(self, request: str) -> Fault | None:
        """The fault that befalls a request, given as `METHOD /path`."""
        fault = self._first(request)
        if fault and fault.meanwhile:
            fault.meanwhile()
        return fault

    def _first(self, request: str) -> Fault | None:
        with self._lock:
            for fault in self._faults:
                if not re.search(fault.requests, request) or fault.done == fault.times:
                    continue
                fault.seen += 1
                if fault.seen % fault.every == 0:
                    fault.done += 1
                    return fault
        return None
