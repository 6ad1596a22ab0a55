"""A Hugging Face hub on loopback: one repository, read-only, spoken to by the real client libraries."""

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from hashlib import sha1
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from urllib.parse import parse_qs, unquote, urlsplit

COMMIT = "c0ffee" + "0" * 34


@contextmanager
def serving(
    repository: str, folder: Path, kind: str = "datasets", revisions: Mapping[str, tuple[str, Path]] | None = None
) -> Iterator[str]:
    """The address of a hub that holds the files of `folder` as `repository`, a data set or a model.

    `revisions`: commit and files of further commits, branches and tags; a commit is known by itself, too.
    """
    known = {"main": (COMMIT, folder), COMMIT: (COMMIT, folder)} | dict(revisions or {})
    known |= {commit: (commit, files) for commit, files in known.values()}

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            self._answer(urlsplit(self.path).path, [])

        def do_HEAD(self) -> None:
            self.do_GET()

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"])).decode()
            as_json = self.headers.get("Content-Type", "").startswith("application/json")
            self._answer(self.path, json.loads(body)["paths"] if as_json else parse_qs(body)["paths"])

        def _answer(self, path: str, paths: list[str]) -> None:
            api = f"/api/{kind}/{repository}"
            prefix = f"/{kind}/" if kind == "datasets" else "/"
            resolve = f"{prefix}{repository}/resolve/"
            if not path.startswith((api, resolve)):
                self._send(404, b"", {"X-Error-Code": "RepoNotFound"})
                return
            wanted = path.removeprefix(resolve) if path.startswith(resolve) else _after_verb(path, api)
            revision, _, name = unquote(wanted).partition("/")
            if revision not in known:
                self._send(404, b"", {"X-Error-Code": "RevisionNotFound"})
                return
            commit, files = known[revision]
            if path in (api, f"{api}/revision/{revision}"):
                self._send_json(_info(repository, commit, files))
            elif path.startswith((f"{api}/tree/", f"{api}/paths-info/")):
                self._send_json([entry for entry in _entries(files) if not paths or entry["path"] in paths])
            elif path.startswith(resolve) and (file := files / name).is_file():
                self._send(200, file.read_bytes(), {"ETag": _oid(file), "X-Repo-Commit": commit})
            else:
                self._send(404, b"", {"X-Error-Code": "EntryNotFound"})

        def _send_json(self, value: object) -> None:
            self._send(200, json.dumps(value).encode(), {"Content-Type": "application/json"})

        def _send(self, status: int, body: bytes, headers: dict[str, str]) -> None:
            self.send_response(status)
            for name, value in (headers | {"Content-Length": str(len(body))}).items():
                self.send_header(name, value)
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(body)

        def log_message(self, *args: object) -> None:
            """Say nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()


def _after_verb(path: str, api: str) -> str:
    """The revision that an address of the API is about, and what follows it."""
    return path.removeprefix(api).lstrip("/").partition("/")[2] or "main"


def _info(repository: str, commit: str, folder: Path) -> dict[str, object]:
    files = [{"rfilename": entry["path"]} for entry in _entries(folder) if entry["type"] == "file"]
    return {"_id": "0", "id": repository, "sha": commit, "private": False, "tags": [], "siblings": files}


def _entries(folder: Path) -> list[dict[str, object]]:
    return [
        {"type": "file", "path": path.relative_to(folder).as_posix(), "size": path.stat().st_size, "oid": _oid(path)}
        if path.is_file()
        else {"type": "directory", "path": path.relative_to(folder).as_posix(), "oid": "0" * 40}
        for path in sorted(folder.rglob("*"))
    ]


def _oid(path: Path) -> str:
    return sha1(path.read_bytes()).hexdigest()
