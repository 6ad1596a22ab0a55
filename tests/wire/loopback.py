"""HTTP on loopback: a server that has faults on request, and how it answers. What ours have in common."""

import socket
import sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Event, Lock, Thread
from typing import Any, Self

from tests.wire.faults import Faults


class LoopbackServer:
    """`with Server() as server:` answers at `server.url` until the end of the block."""

    def __init__(self, handler: type["LoopbackHandler"], port: int = 0) -> None:
        self.faults = Faults()
        self.lock = Lock()
        self.stopped = Event()
        self._http = _Http(("127.0.0.1", port), handler)
        self._http.service = self
        self.url = f"http://127.0.0.1:{self._http.server_address[1]}"

    def __enter__(self) -> Self:
        Thread(target=self._http.serve_forever, args=(0.05,), daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stopped.set()
        self._http.shutdown()
        self._http.server_close()

    def wait(self) -> None:
        """Serve until somebody presses Ctrl-C."""
        try:
            self.stopped.wait()
        except KeyboardInterrupt:
            print("stopped")


class _Http(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 128
    service: LoopbackServer

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Report a mistake of this server; a client that went away is none."""
        if not isinstance(sys.exception(), OSError):
            super().handle_error(request, client_address)


class LoopbackHandler(BaseHTTPRequestHandler):
    """Reads requests; `self.server.service` is the server that is asked."""

    protocol_version = "HTTP/1.1"
    wbufsize = -1  # an answer is one packet, or the client's delayed acknowledgements cost 40 ms each
    disable_nagle_algorithm = True
    server: _Http

    def log_message(self, *_: object) -> None:
        """Nothing is printed."""

    def reply(self, status: int, body: bytes, headers: dict[str, str], cut: bool = False) -> None:
        """Answer; `cut`: only half, and break the connection off."""
        self.send_response(status)
        for name, value in ({"Content-Type": "application/json"} | headers).items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body[: len(body) // 2] if cut else body)
        if cut:
            self.wfile.flush()
            self.connection.shutdown(socket.SHUT_RDWR)
            self.close_connection = True
