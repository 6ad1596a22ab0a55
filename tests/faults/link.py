"""A link: ports on loopback that lead to those of a server, until they are cut; the server keeps its data."""

import logging
import socket
import struct
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress

CHUNK_BYTES = 1 << 16
_ABORT = struct.pack("ii", 1, 0)  # a connection that is closed so is broken, not ended


class Link:
    """`with Link(port, ...) as link:` leads from `link.ports` to the server's ports or unix sockets, in that order."""

    def __init__(self, *targets: int | str) -> None:
        self._targets = targets
        self._lock = threading.RLock()
        self._open: set[socket.socket] = set()
        self._bytes_left: int | None = None
        self._doors = [_door(0) for _ in targets]
        self.ports = [door.getsockname()[1] for door in self._doors]
        self.is_up = False
        self.cuts = 0

    def __enter__(self) -> "Link":
        self.restore()
        return self

    def __exit__(self, *_: object) -> None:
        self.cut()
        for door in self._doors:
            door.close()

    def cut_after(self, size: int) -> None:
        """Cut everything when clients have sent so many more bytes: in the middle of a request."""
        self._bytes_left = size

    def cut(self) -> None:
        """Break all connections, and refuse new ones; the ports stay ours."""
        with self._lock:
            if not self.is_up:
                return
            self.is_up = False
            self.cuts += 1
            self._bytes_left = None
            closed, self._doors = self._doors, [_door(port) for port in self.ports]
            for door in closed:
                _end(door)
            for connection in self._open:
                connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _ABORT)
                _end(connection)
            self._open.clear()

    def restore(self) -> None:
        """Lead to the server again."""
        with self._lock:
            if self.is_up:
                return
            self.is_up = True
            for door, target in zip(self._doors, self._targets, strict=True):
                door.listen(128)
                threading.Thread(target=self._welcome, args=(door, target), daemon=True).start()

    def _welcome(self, door: socket.socket, target: int | str) -> None:
        with suppress(OSError):  # it was cut
            while True:
                client = door.accept()[0]
                server = _called(target)
                with self._lock:
                    self._open |= {client, server}
                for source, sink, counted in ((client, server, True), (server, client, False)):
                    threading.Thread(target=self._pass_on, args=(source, sink, counted), daemon=True).start()

    def _pass_on(self, source: socket.socket, sink: socket.socket, counted: bool) -> None:
        with suppress(OSError):  # one side has gone
            while data := source.recv(CHUNK_BYTES):
                with self._lock:
                    if counted and self._bytes_left is not None:
                        self._bytes_left -= len(data)
                        if self._bytes_left < 0:
                            return self.cut()
                sink.sendall(data)
        with self._lock:
            self._open -= {source, sink}
        _end(source)
        _end(sink)


@contextmanager
def when_told(words: str, link: Link, after_seconds: float = 0) -> Iterator[None]:
    """Restore the link when a message of ours contains the words: whoever logged it is about to try again."""
    log = logging.getLogger("squadron")
    handler = _Listener(words, link, after_seconds)
    level = log.level
    log.setLevel(logging.INFO)
    log.addHandler(handler)
    try:
        yield
    finally:
        log.removeHandler(handler)
        log.setLevel(level)
        if handler.timer:
            handler.timer.cancel()


class _Listener(logging.Handler):
    timer: threading.Timer | None = None

    def __init__(self, words: str, link: Link, after_seconds: float) -> None:
        super().__init__()
        self._words, self._link, self._after_seconds = words, link, after_seconds

    def emit(self, record: logging.LogRecord) -> None:
        if self._words not in record.getMessage():
            return
        if not self._after_seconds:
            self._link.restore()
        elif not self.timer:
            self.timer = threading.Timer(self._after_seconds, self._link.restore)
            self.timer.start()


def _called(target: int | str) -> socket.socket:
    if isinstance(target, int):
        return socket.create_connection(("127.0.0.1", target))
    server = socket.socket(socket.AF_UNIX)
    server.connect(target)
    return server


def _door(port: int) -> socket.socket:
    """A port that is bound, and refuses everybody until it listens."""
    door = socket.socket()
    door.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    door.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    door.bind(("127.0.0.1", port))
    return door


def _end(connection: socket.socket) -> None:
    with suppress(OSError):
        connection.shutdown(socket.SHUT_RDWR)  # wakes who waits for it
    connection.close()
