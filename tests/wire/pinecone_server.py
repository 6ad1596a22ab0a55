"""A Pinecone server of ours, on loopback: the part of the published REST API that Squadron uses.

    python -m tests.wire.pinecone_server --port 5080

It keeps indexes in memory, enforces the service's limits, shows writes late when told to, and has faults on
request. At its root is an index that takes the dimension of the first vector it gets (`store.pinecone.host`);
with PINECONE_CONTROLLER_HOST set to its address, indexes are created in it by name, as in the service.
"""

import argparse
import re
import time
from dataclasses import dataclass
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

import orjson

from tests.wire.faults import Fault
from tests.wire.loopback import LoopbackHandler, LoopbackServer
from tests.wire.pinecone_index import METRICS, Index, Refusal, invalid

MAX_UPSERT_BYTES = 2 * 1024 * 1024


@dataclass(frozen=True)
class Seen:
    """A request that came in."""

    line: str
    """`METHOD /path`, without the query."""
    at: float
    """`time.monotonic()`."""
    size: int
    """Bytes of its body."""


class PineconeServer(LoopbackServer):
    """The service at `server.url`."""

    def __init__(
        self,
        key: str | None = None,
        port: int = 0,
        metric: str = "cosine",
        dimension: int | None = None,
        lag_reads: int = 0,
    ) -> None:
        super().__init__(_Handler, port)
        self.key = key
        self.lag_reads = lag_reads
        self.seen: list[Seen] = []
        self.root = Index(dimension, metric, lag_reads)
        self.indexes: dict[str, Index] = {}

    def requests(self, pattern: str) -> list[Seen]:
        """The requests so far whose `METHOD /path` matches."""
        return [seen for seen in self.seen if re.search(pattern, seen.line)]

    def answer(self, method: str, path: str, query: dict[str, list[str]], body: bytes, fault: Fault | None) -> tuple:
        """Status, JSON and headers for a request. Raises Refusal."""
        if found := re.fullmatch(r"/data/([^/]+)(/.*)", path):
            return self._data(self._index(found[1]), method, found[2], query, body, fault)
        if re.fullmatch(r"/indexes(/[^/]+)?", path):
            return self._control(method, path.removeprefix("/indexes").strip("/"), body)
        return self._data(self.root, method, path, query, body, fault)

    def _control(self, method: str, name: str, body: bytes) -> tuple:
        if method == "GET" and not name:
            return 200, {"indexes": [self._model(name, index) for name, index in sorted(self.indexes.items())]}, {}
        if method == "GET":
            return 200, self._model(name, self._index(name)), {}
        if method == "POST" and not name:
            return 201, self._create(orjson.loads(body)), {}
        if method == "DELETE" and self.indexes.pop(name, None):
            return 202, {}, {}
        raise Refusal(404, 5, f"Resource {name} not found")

    def _create(self, wanted: dict[str, Any]) -> dict:
        name, fields = wanted.get("name", ""), wanted["schema"]["fields"]
        values = fields.get("_values", {})
        dimension, metric = values.get("dimension", 0), values.get("metric")
        if not re.fullmatch(r"[a-z0-9]([a-z0-9-]{0,43}[a-z0-9])?", name):
            raise invalid("Name must consist of lower case alphanumeric characters or '-', of at most 45")
        if set(fields) != {"_values"} or not 1 <= dimension <= 20_000 or metric not in METRICS:
            raise invalid("schema must declare the dense_vector '_values' with a dimension and a metric")
        with self.lock:
            if name in self.indexes:
                raise Refusal(409, 6, "Resource already exists.")
            self.indexes[name] = Index(dimension, metric, self.lag_reads)
        return self._model(name, self.indexes[name])

    def _index(self, name: str) -> Index:
        if name not in self.indexes:
            raise Refusal(404, 5, f"Resource {name} not found")
        return self.indexes[name]

    def _model(self, name: str, index: Index) -> dict:
        return {
            "name": name,
            "host": f"{self.url}/data/{name}",
            "status": {"ready": True, "state": "Ready"},
            "schema": {
                "fields": {"_values": {"type": "dense_vector", "dimension": index.dimension, "metric": index.metric}}
            },
            "deployment": {"deployment_type": "managed", "cloud": "aws", "region": "us-east-1"},
            "deletion_protection": "disabled",
        }

    def _data(
        self, index: Index, method: str, path: str, query: dict[str, list[str]], body: bytes, fault: Fault | None
    ) -> tuple:
        given = orjson.loads(body) if body else {}
        namespace = given.get("namespace") or query.get("namespace", [""])[0] or "__default__"
        match f"{method} {path}":
            case "POST /vectors/upsert":
                if len(body) > MAX_UPSERT_BYTES:
                    raise Refusal(413, 11, f"Request size {len(body)} exceeds the limit of {MAX_UPSERT_BYTES} bytes")
                rows = fault.rows if fault else None
                return _written(*index.upsert(given.get("vectors", []), namespace, rows))
            case "POST /vectors/update":
                return _written(*index.update(given["id"], given.get("setMetadata", {}), namespace))
            case "POST /vectors/delete":
                return _written(*index.delete(given.get("ids", []), namespace))
            case "GET /vectors/fetch":
                return 200, index.fetch(query.get("ids", []), namespace), {}
            case "GET /vectors/list":
                limit, token = int(query.get("limit", ["100"])[0]), query.get("paginationToken", [None])[0]
                return 200, index.list(query.get("prefix", [""])[0], limit, token, namespace), {}
            case "POST /query":
                answer, indexed = index.query({**given, "namespace": namespace})
                return 200, answer, {} if indexed is None else {"x-pinecone-max-indexed-lsn": str(indexed)}
            case "POST /describe_index_stats":
                return 200, index.stats(), {}
        if method == "DELETE" and path.startswith("/namespaces/"):
            return 200, index.delete_namespace(unquote(path.removeprefix("/namespaces/"))), {}
        raise Refusal(404, 12, f"{method} {path} is not a part of the API that this server knows")


class _Handler(LoopbackHandler):
    def do_GET(self) -> None:  # noqa: N802
        pinecone = self.server.service
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        url = urlsplit(self.path)
        line = f"{self.command} {url.path}"
        with pinecone.lock:
            pinecone.seen.append(Seen(line, time.monotonic(), len(body)))
        fault = pinecone.faults.of(line)
        if fault:
            pinecone.stopped.wait(fault.delay_seconds)
        key = self.headers.get("Api-Key")
        if not key or pinecone.key not in (None, key):
            return self.reply(401, b"Unauthorized", {"Content-Type": "text/plain"})
        if fault and fault.status:
            return self.reply(fault.status, fault.body.encode(), dict(fault.headers))
        try:
            status, found, headers = pinecone.answer(self.command, url.path, parse_qs(url.query), body, fault)
        except Refusal as refusal:
            status, headers = refusal.status, {}
            found = {"code": refusal.code, "message": refusal.message, "details": []}
        self.reply(status, orjson.dumps(found), headers, cut=bool(fault and fault.dropped))

    do_POST = do_DELETE = do_GET  # noqa: N815


def _written(answer: dict, position: int | None) -> tuple:
    return 200, answer, {} if position is None else {"x-pinecone-request-lsn": str(position)}


def main() -> None:
    parser = argparse.ArgumentParser(description="A Pinecone server on loopback; everything is in memory.")
    parser.add_argument("--port", type=int, default=0, help="0: any that is free")
    parser.add_argument("--key", help="the only key to accept; without one, any is")
    parser.add_argument("--metric", choices=METRICS, default="cosine", help="of the index at the root")
    parser.add_argument("--lag-reads", type=int, default=0, help="show a write after so many more reads")
    given = parser.parse_args()
    with PineconeServer(given.key, given.port, given.metric, lag_reads=given.lag_reads) as server:
        print(f"one index:       --set store.pinecone.host={server.url}")
        print(f"indexes by name: PINECONE_CONTROLLER_HOST={server.url}", flush=True)
        server.wait()


if __name__ == "__main__":
    main()
