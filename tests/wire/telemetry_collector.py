"""A collector of ours, on loopback: takes StatsD's packets by UDP and OpenTelemetry's spans by HTTP, and keeps them."""

import socket
from collections import defaultdict
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Condition, Thread

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.trace.v1.trace_pb2 import Span

TIMEOUT_SECONDS = 120


class TelemetryCollector:
    """The collector, as a context manager."""

    def __init__(self) -> None:
        self.metrics: dict[str, list[tuple[str, float]]] = defaultdict(list)
        """Name -> (kind, value) of each packet: `c` counters, `g` gauges, `ms` timers."""
        self.spans: list[Span] = []
        self._changed = Condition()
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 22)
        self._socket.bind(("127.0.0.1", 0))
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        self.statsd_port: int = self._socket.getsockname()[1]
        self.otlp_address = f"http://127.0.0.1:{self._server.server_port}"

    def __enter__(self) -> "TelemetryCollector":
        Thread(target=self._receive, daemon=True).start()
        Thread(target=self._server.serve_forever, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
            sender.sendto(b"", ("127.0.0.1", self.statsd_port))

    def wait_for(self, done: Callable[[], bool], what: str) -> None:
        """Wait until something has come in."""
        with self._changed:
            assert self._changed.wait_for(done, TIMEOUT_SECONDS), f"waited {TIMEOUT_SECONDS} s for {what}"

    def _receive(self) -> None:
        while packet := self._socket.recv(65_535):
            with self._changed:
                for line in packet.decode().splitlines():
                    name, _, measured = line.rpartition(":")
                    value, kind = measured.split("|")[:2]
                    self.metrics[name].append((kind, float(value)))
                self._changed.notify_all()
        self._socket.close()

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        collector = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["content-length"]))
                request = ExportTraceServiceRequest.FromString(body)
                with collector._changed:
                    for resource in request.resource_spans:
                        collector.spans += [span for scope in resource.scope_spans for span in scope.spans]
                    collector._changed.notify_all()
                self.send_response(200)
                self.send_header("content-length", "0")
                self.end_headers()

            def log_message(self, *_: object) -> None:
                pass

        return Handler
