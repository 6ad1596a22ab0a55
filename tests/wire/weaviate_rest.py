"""A Weaviate server's REST side: what its Python client asks of it, with the statuses and bodies that it answers."""

import json
import re
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler
from socket import SHUT_RDWR
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs, urlsplit
from uuid import UUID

from tests.wire.weaviate_data import InvalidError, NotFoundError, Stored

if TYPE_CHECKING:
    from tests.wire.weaviate_server import WeaviateServer

Answer = tuple[int, Any]
_NAME = r"([^/]+)"


def handler(server: "WeaviateServer") -> type[BaseHTTPRequestHandler]:
    """The class that answers requests to this server."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        disable_nagle_algorithm = True

        def answer(self) -> None:
            length = int(self.headers.get("Content-Length") or 0)
            body = self.rfile.read(length) if length else b""
            path = urlsplit(self.path).path
            fault = server.befalling(f"{self.command} {path}")
            if fault and fault.delay_seconds:
                server.closing.wait(fault.delay_seconds)
            if fault and fault.status:
                self.reply(fault.status, fault.body or {"error": [{"message": "refused on request"}]})
                return
            status, answer = self.result(path, json.loads(body) if body else None)
            if fault and fault.dropped:
                self.close_connection = True
                self.connection.shutdown(SHUT_RDWR)
                return
            self.reply(status, answer)

        def result(self, path: str, body: Any) -> Answer:
            if not server.allows(self.headers.get("Authorization")):
                return 401, {"code": 401, "message": server.refused_key}
            query = {name: values[0] for name, values in parse_qs(urlsplit(self.path).query).items()}
            for method, pattern, function in _ROUTES:
                if method == self.command and (found := re.fullmatch(pattern, path)):
                    try:
                        with server.database.lock:
                            return function(server, [*found.groups()], body, query)
                    except InvalidError as error:
                        return 422, {"error": [{"message": str(error)}]}
                    except NotFoundError:
                        return 404, None
            return 404, {"code": 404, "message": f"path {path} was not found"}

        def reply(self, status: int, answer: Any) -> None:
            content = (
                b"" if answer is None else answer.encode() if isinstance(answer, str) else json.dumps(answer).encode()
            )
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            if status != 204:
                self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(content)

        def log_message(self, *_: Any) -> None:
            pass

        do_GET = do_HEAD = do_POST = do_PUT = do_DELETE = answer  # noqa: N815 - http.server calls them so

    return Handler


def _meta(server: "WeaviateServer", *_: Any) -> Answer:
    return 200, {"hostname": server.uri, "version": server.version, "grpcMaxMessageSize": server.message_bytes}


def _schema(server: "WeaviateServer", *_: Any) -> Answer:
    return 200, {"classes": [known.schema for known in server.database.classes.values()]}


def _class(server: "WeaviateServer", path: list[str], *_: Any) -> Answer:
    return (200, server.database.classes[path[0]].schema) if path[0] in server.database.classes else (404, None)


def _add_class(server: "WeaviateServer", _: Any, body: Any, __: Any) -> Answer:
    return 200, server.database.add_class(body)


def _drop_class(server: "WeaviateServer", path: list[str], *_: Any) -> Answer:
    server.database.classes.pop(path[0], None)
    return 200, None


def _add_property(server: "WeaviateServer", path: list[str], body: Any, _: Any) -> Answer:
    return 200, server.database.add_property(path[0], body)


def _shards(server: "WeaviateServer", path: list[str], *_: Any) -> Answer:
    server.database.open(path[0])
    waiting = server.index_queue.pop(0) if server.index_queue else 0
    return 200, [{"name": "shard1", "status": server.shard_status, "vectorQueueSize": waiting}]


def _add_object(server: "WeaviateServer", _: Any, body: Any, __: Any) -> Answer:
    of, key = server.database.open(body["class"]), UUID(body["id"])
    if key.int in of.objects:
        raise InvalidError(f"id '{key}' already exists")
    of.put(Stored(key, body["properties"], None))
    return 200, body


def _has_object(server: "WeaviateServer", path: list[str], *_: Any) -> Answer:
    return 204 if UUID(path[1]).int in server.database.open(path[0]).objects else 404, None


def _drop_object(server: "WeaviateServer", path: list[str], *_: Any) -> Answer:
    return 204 if server.database.open(path[0]).remove(UUID(path[1]).int) else 404, None


def _aliases(server: "WeaviateServer", _: Any, __: Any, query: dict[str, str]) -> Answer:
    known = [{"alias": alias, "class": target} for alias, target in server.database.aliases.items()]
    return 200, {"aliases": [one for one in known if query.get("class") in (None, one["class"])]}


def _alias(server: "WeaviateServer", path: list[str], *_: Any) -> Answer:
    target = server.database.aliases.get(path[0])
    return (200, {"alias": path[0], "class": target}) if target else (404, None)


def _add_alias(server: "WeaviateServer", _: Any, body: Any, __: Any) -> Answer:
    return 200, server.database.add_alias(body["alias"], body["class"])


def _move_alias(server: "WeaviateServer", path: list[str], body: Any, _: Any) -> Answer:
    return 200, server.database.move_alias(path[0], body["class"])


def _drop_alias(server: "WeaviateServer", path: list[str], *_: Any) -> Answer:
    return 204 if server.database.aliases.pop(path[0], None) else 404, None


def _well(*_: Any) -> Answer:
    return 200, None


_ROUTES: list[tuple[str, str, Callable[["WeaviateServer", list[str], Any, Any], Answer]]] = [
    ("GET", "/v1/meta", _meta),
    ("GET", "/v1/.well-known/(live|ready)", _well),
    ("GET", "/v1/schema", _schema),
    ("POST", "/v1/schema", _add_class),
    ("GET", f"/v1/schema/{_NAME}", _class),
    ("DELETE", f"/v1/schema/{_NAME}", _drop_class),
    ("POST", f"/v1/schema/{_NAME}/properties", _add_property),
    ("GET", f"/v1/schema/{_NAME}/shards", _shards),
    ("POST", "/v1/objects", _add_object),
    ("HEAD", f"/v1/objects/{_NAME}/{_NAME}", _has_object),
    ("DELETE", f"/v1/objects/{_NAME}/{_NAME}", _drop_object),
    ("GET", "/v1/aliases", _aliases),
    ("POST", "/v1/aliases", _add_alias),
    ("GET", f"/v1/aliases/{_NAME}", _alias),
    ("PUT", f"/v1/aliases/{_NAME}", _move_alias),
    ("DELETE", f"/v1/aliases/{_NAME}", _drop_alias),
]
