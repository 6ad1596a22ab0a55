"""A Weaviate server for tests: its REST and gRPC protocols on loopback, its data in memory, its faults on request.

python -m tests.wire.weaviate_server --port 8080 --grpc-port 50051
"""

import argparse
import signal
import sys
import threading
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from http.server import ThreadingHTTPServer
from typing import Any
from uuid import UUID

import grpc
from weaviate.proto.v1 import weaviate_pb2_grpc

from tests.wire.faults import Fault, Faults
from tests.wire.weaviate_data import Database
from tests.wire.weaviate_grpc import Service, health
from tests.wire.weaviate_rest import handler

MESSAGE_BYTES = 104_858_000
QUERY_MAXIMUM_RESULTS = 10_000
WORKERS = 16


class _Http(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Report a mistake of this server; a client that went away is none."""
        if not isinstance(sys.exception(), OSError):
            super().handle_error(request, client_address)


class WeaviateServer:
    """A server that runs from its making to `close`; usable in a `with` statement."""

    refused_key = "unauthorized: invalid api key: please provide a valid api key"

    def __init__(
        self,
        port: int = 0,
        grpc_port: int = 0,
        *,
        key: str | None = None,
        version: str = "1.34.0",
        message_bytes: int = MESSAGE_BYTES,
        query_maximum_results: int = QUERY_MAXIMUM_RESULTS,
    ) -> None:
        self.key = key
        self.version = version
        self.message_bytes = message_bytes
        self.query_maximum_results = query_maximum_results
        self.database = Database()
        self.faults = Faults()
        self.calls: Counter[str] = Counter()
        """How often each request came, as `METHOD /path`."""
        self.requests: dict[str, Any] = {}
        """The last request of each gRPC method."""
        self.batches: list[int] = []
        """How many objects each batch had."""
        self.most_under_way = 0
        """How many gRPC calls were under way at once, at most."""
        self.index_queue: list[int] = []
        """Vectors that wait to be indexed: what the next requests for the shards are told."""
        self.shard_status = "READY"
        self.closing = threading.Event()
        self._refusals: dict[UUID, tuple[str, int | None]] = {}
        self._under_way = 0
        self._lock = threading.Lock()
        self._http = _Http(("127.0.0.1", port), handler(self))
        self._http_thread = threading.Thread(target=self._http.serve_forever, args=(0.05,), daemon=True)
        self._http_thread.start()
        self.port = self._http.server_address[1]
        self._grpc, self.grpc_port = self._listening(grpc_port)

    @property
    def uri(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def refuse(self, passage_id: str, reason: str, times: int | None = None) -> None:
        """Refuse one object in every batch and delete, or so many times."""
        self._refusals[UUID(passage_id)] = reason, times

    def refusal(self, key: UUID) -> str | None:
        """Why an object is refused now, if it is."""
        reason, times = self._refusals.get(key, (None, None))
        if times == 0:
            return None
        if times:
            self._refusals[key] = str(reason), times - 1
        return reason

    def befalling(self, request: str) -> Fault | None:
        """Count a request; the fault that befalls it, if one does."""
        with self._lock:
            self.calls[request] += 1
        return self.faults.of(request)

    def count(self, part: str) -> int:
        """How many requests came whose `METHOD /path` contains this."""
        with self._lock:
            return sum(count for request, count in self.calls.items() if part in request)

    def allows(self, authorization: Any) -> bool:
        """Whether the header bears the key, where one is wanted."""
        return self.key is None or authorization == f"Bearer {self.key}"

    @contextmanager
    def under_way(self) -> Iterator[None]:
        """Around the work of one gRPC call."""
        with self._lock:
            self._under_way += 1
            self.most_under_way = max(self.most_under_way, self._under_way)
        try:
            yield
        finally:
            with self._lock:
                self._under_way -= 1

    def cut_grpc(self) -> None:
        """Cut all gRPC connections, as a crash does, and listen again on the same port."""
        self._grpc.stop(None)
        self._grpc, _ = self._listening(self.grpc_port)

    def close(self) -> None:
        """Stop both sides."""
        self.closing.set()
        self._http.shutdown()
        self._http.server_close()
        self._http_thread.join()
        self._grpc.stop(None).wait()

    def __enter__(self) -> "WeaviateServer":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _listening(self, port: int) -> tuple[grpc.Server, int]:
        sizes = ("grpc.max_receive_message_length", "grpc.max_send_message_length")
        server = grpc.server(ThreadPoolExecutor(WORKERS), options=[(size, self.message_bytes) for size in sizes])
        weaviate_pb2_grpc.add_WeaviateServicer_to_server(Service(self), server)
        server.add_generic_rpc_handlers((health(),))
        bound = server.add_insecure_port(f"127.0.0.1:{port}")
        server.start()
        return server, bound


def main() -> None:
    """Serve until interrupted."""
    parser = argparse.ArgumentParser(description="A Weaviate server for tests; its data is gone when it ends.")
    parser.add_argument("--port", type=int, default=8080)
    parser.add_argument("--grpc-port", type=int, default=50051)
    parser.add_argument("--key", help="the API key that it wants; none: it lets everybody in")
    given = parser.parse_args()
    with WeaviateServer(given.port, given.grpc_port, key=given.key) as server:
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, lambda *_: server.closing.set())
        print(f"{server.uri}, gRPC on port {server.grpc_port}: interrupt to stop", flush=True)
        server.closing.wait()


if __name__ == "__main__":
    main()
