"""An OpenAI server of ours, on loopback, with the Files and the Batch API: their limits, their states, their errors.

    python -m tests.wire.openai_batch_server --port 5081
    OPENAI_API_KEY=any squadron ingest --set embedding.service=openai --set embedding.openai.mode=batch \
        --set embedding.openai.batch_poll_seconds=1 --set embedding.openai.base_url=http://127.0.0.1:5081/v1

Each time that a batch is asked for it goes one state further, unless it is held.
"""

import re
import threading
import time
from dataclasses import dataclass, field
from email.parser import BytesParser
from email.policy import HTTP
from typing import Any
from urllib.parse import parse_qs, urlsplit

import orjson

from tests.wire.embedding_command import main
from tests.wire.embedding_service import Refusal, Seen, _Handler
from tests.wire.openai_server import LIMITS, OpenAIServer, _refusal

MAX_TEXTS, MAX_FILE_BYTES = 50_000, 200_000_000
MAX_KEYS, MAX_KEY_LENGTH, MAX_VALUE_LENGTH = 16, 64, 512
NEXT = {"validating": "in_progress", "in_progress": "finalizing", "finalizing": "completed", "cancelling": "cancelled"}
ENDED = ("completed", "failed", "expired", "cancelled")


@dataclass
class BatchJob:
    """A batch, as the service knows it."""

    id: str
    input_file_id: str
    metadata: dict[str, str]
    created_at: int
    status: str = "validating"
    errors: list[dict[str, Any]] = field(default_factory=list)
    ended_at: int | None = None
    output_file_id: str | None = None
    error_file_id: str | None = None
    counts: dict[str, int] = field(default_factory=lambda: {"total": 0, "completed": 0, "failed": 0})


class OpenAIBatchServer(OpenAIServer):
    """OpenAI with batches. `batches` are those that were created, in their order."""

    def __init__(self, **given: Any) -> None:
        super().__init__(**given)
        self._http.RequestHandlerClass = _BatchHandler
        self.batches: list[BatchJob] = []
        self.files: dict[str, bytes] = {}
        self.held = False
        """Batches stay in progress."""
        self.ends: list[str] = []
        """How the next batches end, one after the other: `expired`, `cancelled`; then `completed`."""
        self.finished_texts: int | None = None
        """So many texts of a batch that does not complete are done."""
        self.overloaded: set[str] = set()
        """Texts that are answered by 500, once each."""
        self.queue_is_full = 0
        """So many batches fail, because the account's queue is full."""
        self.max_texts, self.max_file_bytes = MAX_TEXTS, MAX_FILE_BYTES
        self.page = 100
        self.came = threading.Condition()
        self.created = threading.Event()
        """A batch was created."""
        self.silent = threading.Event()
        """While it is not set, a batch is created but the answer is held back."""
        self.silent.set()

    def wait_for(self, request: str, times: int, timeout_seconds: float = 120) -> None:
        """Wait until requests that begin so have come so often."""
        with self.came:
            enough = self.came.wait_for(
                lambda: sum(seen.line.startswith(request) for seen in self.seen) >= times, timeout_seconds
            )
        assert enough, f"waited {timeout_seconds} s for {request} to come {times} times"

    def batch_answer(self, method: str, path: str, query: dict[str, list[str]], raw: bytes, kind: str) -> Any:
        """JSON or bytes for a request. Raises Refusal."""
        if method == "POST" and path == "/v1/files":
            return self._uploaded(raw, kind)
        if method == "POST" and path == "/v1/batches":
            created = self._created(orjson.loads(raw))
            self.created.set()
            self.silent.wait(60)
            return created
        if method == "GET" and path == "/v1/batches":
            return self._listed(query)
        if found := re.fullmatch(r"/v1/batches/(batch_\w+)", path):
            return self._shown(self._moved(self._batch(found[1])))
        if (found := re.fullmatch(r"/v1/files/(file-\w+)/content", path)) and found[1] in self.files:
            return self.files[found[1]]
        raise _refusal(404, f"No such object: {path}")

    def _uploaded(self, raw: bytes, kind: str) -> dict[str, Any]:
        message = BytesParser(policy=HTTP).parsebytes(b"Content-Type: " + kind.encode() + b"\r\n\r\n" + raw)
        parts = {part.get_param("name", header="content-disposition"): part for part in message.iter_parts()}
        if parts["purpose"].get_content().strip() != "batch":
            raise _refusal(400, "Invalid value for purpose.", param="purpose")
        content = parts["file"].get_payload(decode=True)
        if len(content) > self.max_file_bytes:
            raise _refusal(413, "The file is too large.")
        file_id = self._kept(content)
        name = parts["file"].get_filename()
        return {"object": "file", "purpose": "batch", "filename": name, "status": "processed"} | {
            "id": file_id,
            "bytes": len(content),
            "created_at": int(time.time()),
        }

    def _created(self, body: dict[str, Any]) -> dict[str, Any]:
        if body.get("completion_window") != "24h" or body.get("endpoint") != "/v1/embeddings":
            raise _refusal(400, "Invalid completion_window or endpoint.")
        metadata = body.get("metadata") or {}
        too_long = any(len(key) > MAX_KEY_LENGTH or len(value) > MAX_VALUE_LENGTH for key, value in metadata.items())
        if len(metadata) > MAX_KEYS or too_long:
            raise _refusal(400, "Invalid metadata.", param="metadata")
        if body.get("input_file_id") not in self.files:
            raise _refusal(400, "No such file.", param="input_file_id")
        with self.lock:
            batch = BatchJob(f"batch_{len(self.batches):04d}", body["input_file_id"], metadata, int(time.time()))
            self.batches.append(batch)
        return self._shown(batch)

    def _listed(self, query: dict[str, list[str]]) -> dict[str, Any]:
        limit = int(query.get("limit", ["20"])[0])
        if not 1 <= limit <= 100:
            raise _refusal(400, "limit must be from 1 to 100", param="limit")
        batches = self.batches[::-1]
        if after := query.get("after"):
            batches = batches[[batch.id for batch in batches].index(after[0]) + 1 :]
        page = [self._shown(batch) for batch in batches[: min(limit, self.page)]]
        return {"object": "list", "data": page, "has_more": len(page) < len(batches)} | {
            "first_id": page[0]["id"] if page else None,
            "last_id": page[-1]["id"] if page else None,
        }

    def _batch(self, batch_id: str) -> BatchJob:
        for batch in self.batches:
            if batch.id == batch_id:
                return batch
        raise _refusal(404, f"No batch found with id '{batch_id}'.")

    def _moved(self, batch: BatchJob) -> BatchJob:
        with self.lock:
            status = NEXT.get(batch.status, batch.status)
            if batch.status == "validating":
                self._validate(batch)
                status = "failed" if batch.errors else status
            if (self.held and batch.status == "in_progress") or batch.status in ENDED:
                return batch
            if status == "completed" and self.ends:
                status = self.ends.pop(0)
            batch.status = status
        if status in ENDED:
            if status != "failed":
                self._process(batch)
            batch.ended_at = int(time.time())
        return batch

    def _validate(self, batch: BatchJob) -> None:
        lines = [orjson.loads(line) for line in self.files[batch.input_file_id].splitlines()]
        batch.counts["total"] = len(lines)
        if self.queue_is_full:
            self.queue_is_full -= 1
            message = "Enqueued token limit reached for text-embedding-3-small in organization org-test."
            batch.errors = [{"code": "token_limit_exceeded", "message": message}]
        elif sum(len(self.texts_of(line["body"])) for line in lines) > self.max_texts or not lines:
            batch.errors = [{"code": "invalid_request", "message": f"The batch holds {len(lines)} texts."}]
        elif len({line["custom_id"] for line in lines}) < len(lines):
            batch.errors = [{"code": "duplicate_custom_id", "message": "A custom_id is there twice.", "line": 1}]
        elif len({line["body"]["model"] for line in lines}) > 1:
            batch.errors = [{"code": "mismatched_model", "message": "The requests name several models."}]
        elif lines[0]["body"]["model"] not in self.models:
            batch.errors = [{"code": "model_not_found", "message": "The model does not exist.", "line": 1}]

    def _process(self, batch: BatchJob) -> None:
        """Do the requests; in another order than they came, for nothing promises one."""
        lines = [orjson.loads(line) for line in self.files[batch.input_file_id].splitlines()][::-1]
        most = len(lines) if batch.status == "completed" else (self.finished_texts or 0)
        output, errors = [], []
        for number, line in enumerate(lines):
            said = {"id": f"batch_req_{number}", "custom_id": line["custom_id"], "error": None}
            if number >= most:
                reason = "This request could not be executed before the completion window expired."
                errors.append(said | {"response": None, "error": {"code": f"batch_{batch.status}", "message": reason}})
                continue
            try:
                body, _ = self._done(line)
                output.append(said | {"response": {"status_code": 200, "request_id": "req", "body": body}})
            except Refusal as refusal:
                response = {"status_code": refusal.status, "request_id": "req", "body": refusal.body}
                errors.append(said | {"response": response})
        batch.counts |= {"completed": len(output), "failed": len(errors)}
        batch.output_file_id = self._kept(b"".join(orjson.dumps(line) + b"\n" for line in output)) if output else None
        batch.error_file_id = self._kept(b"".join(orjson.dumps(line) + b"\n" for line in errors)) if errors else None

    def _done(self, line: dict[str, Any]) -> Any:
        (text,) = self.texts_of(line["body"])
        if text in self.overloaded:
            self.overloaded.remove(text)
            raise _refusal(500, "The server had an error while processing your request.", kind="server_error")
        return self.answer(line["url"], line["body"])

    def _kept(self, content: bytes) -> str:
        with self.lock:
            file_id = f"file-{len(self.files):04d}"
            self.files[file_id] = content
        return file_id

    def _shown(self, batch: BatchJob) -> dict[str, Any]:
        return {
            "object": "batch",
            "id": batch.id,
            "endpoint": "/v1/embeddings",
            "errors": {"object": "list", "data": batch.errors} if batch.errors else None,
            "input_file_id": batch.input_file_id,
            "completion_window": "24h",
            "status": batch.status,
            "output_file_id": batch.output_file_id,
            "error_file_id": batch.error_file_id,
            "created_at": batch.created_at,
            "expires_at": batch.created_at + 86_400,
            f"{batch.status}_at": batch.ended_at,
            "request_counts": batch.counts,
            "metadata": batch.metadata,
        }


class _BatchHandler(_Handler):
    def do_GET(self) -> None:  # noqa: N802
        self._serve(b"")

    def do_POST(self) -> None:  # noqa: N802
        if urlsplit(self.path).path in ("/v1/files", "/v1/batches"):
            self._serve(self._body())
        else:
            super().do_POST()

    def _body(self) -> bytes:
        if "chunked" not in self.headers.get("Transfer-Encoding", ""):
            return self.rfile.read(int(self.headers.get("Content-Length") or 0))
        chunks = []
        while size := int(self.rfile.readline(), 16):
            chunks.append(self.rfile.read(size))
            self.rfile.readline()
        self.rfile.readline()
        return b"".join(chunks)

    def _serve(self, raw: bytes) -> None:
        self.arrived = time.monotonic()
        service: Any = self.server.service
        url = urlsplit(self.path)
        query, line = parse_qs(url.query), f"{self.command} {url.path}"
        with service.came:
            service.seen.append(Seen(line, (), {}, query))
            service.came.notify_all()
        fault = service.faults.of(line)
        try:
            service.authorized({name.lower(): value for name, value in self.headers.items()})
            if fault and fault.status:
                return self.reply(fault.status, fault.body.encode(), dict(fault.headers))
            kind = self.headers.get("Content-Type", "")
            found = service.batch_answer(self.command, url.path, query, raw, kind)
            content = found if isinstance(found, bytes) else orjson.dumps(found)
            self.reply(200, content, {}, cut=bool(fault and fault.dropped))
        except Refusal as refusal:
            self.reply(refusal.status, orjson.dumps(refusal.body), refusal.headers)


if __name__ == "__main__":
    main(OpenAIBatchServer, "openai", "/v1", limits=LIMITS)
