"""Kills: a run in a process of its own that ends by SIGKILL where a test wants it to."""

import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from threading import Event, Lock, Thread
from typing import Any

from tests.wire.faults import Fault, Faults

ROOT = Path(__file__).resolve().parents[2]


@dataclass
class Outcome:
    """What a process did before it ended."""

    killed: bool
    done: list[Any] = field(default_factory=list)
    """What each action returned."""
    refused: str = ""
    """The error that ended it."""
    embedded: int = 0
    """Passages that got their vectors."""
    calls: list[str] = field(default_factory=list)
    """Functions of ours as they began and returned, the last one that where it was killed, if it was."""
    files: list[str] = field(default_factory=list)
    """Files of its folder that Python changed, likewise."""
    seconds: float = 0.0


class Launcher:
    """Starts processes one after the other, as a context manager."""

    def __init__(self) -> None:
        self._log = tempfile.TemporaryFile()  # noqa: SIM115 - closed in __exit__
        self._pid = 0
        self._started = Event()

    def __enter__(self) -> "Launcher":
        self._process = subprocess.Popen(
            [sys.executable, "-W", "ignore", "-m", "tests.crashes.launcher"],
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._log,
            text=True,
        )
        return self

    def __exit__(self, *_: object) -> None:
        assert self._process.stdin
        self._process.stdin.close()
        self._process.wait(60)
        self._log.close()

    def run(self, order: dict[str, Any]) -> Outcome:
        """The outcome of one order, see `launcher`."""
        assert self._process.stdin
        self._started.clear()
        self._process.stdin.write(json.dumps(order) + "\n")
        self._process.stdin.flush()
        self._pid = self._answer()["pid"]
        self._started.set()
        answer = self._answer()
        outcome = Outcome(answer["killed"])
        for kind, what in answer["said"]:
            match kind:
                case "done":
                    outcome.done.append(what)
                case "refused":
                    outcome.refused = what
                case "embedded":
                    outcome.embedded += what
                case "call":
                    outcome.calls.append(what)
                case "file":
                    outcome.files.append(what)
                case "seconds":
                    outcome.seconds = what
        finished = outcome.refused or len(outcome.done) == len(order["actions"])
        assert outcome.killed or finished, f"the process ended by itself: {self._logged()}"
        return outcome

    def kill(self) -> None:
        """Kill the process that works."""
        assert self._started.wait(60)
        os.kill(self._pid, signal.SIGKILL)

    def _answer(self) -> dict[str, Any]:
        assert self._process.stdout
        line = self._process.stdout.readline()
        assert line, f"the launcher ended: {self._logged()}"
        return json.loads(line)

    def _logged(self) -> str:
        self._log.seek(0)
        return self._log.read()[-3000:].decode(errors="replace")


class Reaper:
    """Counts the requests that reach a server, and has their sender killed at one of them."""

    def __init__(self, kill: Callable[[], None]) -> None:
        self._kill = kill
        self._lock = Lock()
        self.watch(None)

    def watch(self, stop: int | None, done: bool = False) -> None:
        """Count from now on. The sender of request number `stop` is killed; the request itself is `done`, or not."""
        self.seen: list[str] = []
        self._stop, self._done = stop, done

    def passes(self, request: str) -> bool:
        """Whether the server is to do what it was asked."""
        with self._lock:
            self.seen.append(request)
            last = len(self.seen) == self._stop
            if last:
                self._kill()
        return not last or self._done


class KillingFaults(Faults):
    """The faults of a server of ours whose requests a reaper counts."""

    def __init__(self, reaper: Reaper) -> None:
        super().__init__()
        self.reaper = reaper

    def of(self, request: str) -> Fault | None:
        return super().of(request) if self.reaper.passes(request) else Fault(request, status=503)


class SocketProxy:
    """A unix socket before another one; a reaper counts what clients send, a message or a part of one each time."""

    def __init__(self, path: Path, target: str, reaper: Reaper) -> None:
        self._target, self._reaper = target, reaper
        self._listening = socket.socket(socket.AF_UNIX)
        self._listening.bind(str(path))
        self._listening.listen(16)

    def __enter__(self) -> "SocketProxy":
        Thread(target=self._accept, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._listening.close()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listening.accept()
            except OSError:
                return  # closed
            server = socket.socket(socket.AF_UNIX)
            server.connect(self._target)
            Thread(target=self._pass_on, args=(client, server, True), daemon=True).start()
            Thread(target=self._pass_on, args=(server, client, False), daemon=True).start()

    def _pass_on(self, source: socket.socket, target: socket.socket, counted: bool) -> None:
        try:
            while (part := source.recv(1 << 16)) and (not counted or self._reaper.passes(part[:1].decode("latin1"))):
                target.sendall(part)
        except OSError:
            pass  # one side is gone: so is the other
        for end in (source, target):
            try:
                end.shutdown(socket.SHUT_RDWR)
            except OSError:
                end.close()
