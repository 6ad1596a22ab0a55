"""An index of our Pinecone server: namespaces in memory, the service's limits, exact search, late visibility."""

import base64
from bisect import bisect_right
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from threading import RLock
from typing import Any

import numpy as np
import orjson

MAX_UPSERT_ROWS, MAX_IDS, MAX_PAGE, MAX_TOP_K = 1_000, 1_000, 100, 10_000
MAX_METADATA_BYTES = 40_960
MAX_RESULT_BYTES = 4 * 1024 * 1024
METRICS = ("cosine", "dotproduct", "euclidean")


class Refusal(Exception):  # noqa: N818
    """An answer that is an error."""

    def __init__(self, status: int, code: int, message: str) -> None:
        super().__init__(message)
        self.status, self.code, self.message = status, code, message


def invalid(message: str) -> Refusal:
    """HTTP 400 for a request that no repetition mends."""
    return Refusal(400, 3, message)


@dataclass
class Namespace:
    """Rows by id, and a log of writes, of which reads see only a part yet."""

    rows: dict[str, tuple[np.ndarray, dict[str, Any]]] = field(default_factory=dict)
    log: deque[tuple[int, Callable[[], None]]] = field(default_factory=deque)
    committed: int = 0
    indexed: int = 0
    reads: int = 0
    upserted: int = 0
    """Rows that were taken, those that were there before among them."""
    matrix: np.ndarray | None = None
    """The rows' vectors, in their order; None: to be made."""


class Index:
    """One index. A write shows after `lag_reads` more reads of its namespace; with 0, at once."""

    def __init__(self, dimension: int | None = None, metric: str = "cosine", lag_reads: int = 0) -> None:
        self.dimension, self.metric, self.lag_reads = dimension, metric, lag_reads
        self.namespaces: dict[str, Namespace] = {}
        self._lock = RLock()

    def upsert(self, vectors: Sequence[dict[str, Any]], namespace: str, rows: int | None = None) -> tuple[dict, int]:
        """The answer and the log position; `rows`: take only so many."""
        if not 1 <= len(vectors) <= MAX_UPSERT_ROWS:
            raise invalid(f"Number of vectors {len(vectors)} must be between 1 and {MAX_UPSERT_ROWS}")
        values = self._values([vector.get("values") for vector in vectors])
        made = {}
        for vector, row in zip(vectors, values, strict=True):
            metadata = vector.get("metadata") or {}
            _check_record(vector.get("id"), metadata)
            made[vector["id"]] = (row, metadata)
        taken = dict(list(made.items())[:rows])
        with self._lock:
            self.dimension = self.dimension or values.shape[1]
            place = self.namespaces.setdefault(namespace, Namespace())
            place.upserted += len(taken)
            return {"upsertedCount": len(taken)}, self._commit(place, lambda: place.rows.update(taken))

    def update(self, key: str, metadata: dict[str, Any], namespace: str) -> tuple[dict, int | None]:
        """Set metadata of a row; nothing where there is no such row."""
        with self._lock:
            place = self.namespaces.get(namespace)

            def change() -> None:
                if place and key in place.rows:
                    values, before = place.rows[key]
                    place.rows[key] = (values, before | metadata)

            return {}, self._commit(place, change) if place else None

    def delete(self, ids: Sequence[str], namespace: str) -> tuple[dict, int]:
        """Remove rows."""
        if not 1 <= len(ids) <= MAX_IDS:
            raise invalid(f"Number of ids {len(ids)} must be between 1 and {MAX_IDS}")
        with self._lock:
            place = self._existing(namespace)

            def remove() -> None:
                for key in ids:
                    place.rows.pop(key, None)

            return {}, self._commit(place, remove)

    def delete_namespace(self, namespace: str) -> dict:
        """Remove all of it."""
        with self._lock:
            self._existing(namespace)
            del self.namespaces[namespace]
        return {}

    def fetch(self, ids: Sequence[str], namespace: str) -> dict:
        """Rows by id."""
        if not 1 <= len(ids) <= MAX_IDS:
            raise invalid(f"Number of ids {len(ids)} must be between 1 and {MAX_IDS}")
        with self._lock:
            rows = self._read(namespace).rows
            found = {key: rows[key] for key in ids if key in rows}
        vectors = {key: {"id": key, "values": v.tolist(), "metadata": m} for key, (v, m) in found.items()}
        return {"vectors": vectors, "namespace": namespace, "usage": {"readUnits": 1}}

    def list(self, prefix: str, limit: int, token: str | None, namespace: str) -> dict:
        """A page of ids, in their order."""
        if not 1 <= limit <= MAX_PAGE:
            raise invalid(f"limit must be between 1 and {MAX_PAGE}")
        with self._lock:
            ids = sorted(key for key in self._read(namespace).rows if key.startswith(prefix))
        start = bisect_right(ids, base64.b64decode(token).decode()) if token else 0
        page = ids[start : start + limit]
        answer: dict[str, Any] = {"vectors": [{"id": key} for key in page], "namespace": namespace}
        if start + limit < len(ids):
            answer["pagination"] = {"next": base64.b64encode(page[-1].encode()).decode()}
        return answer | {"usage": {"readUnits": 1}}

    def query(self, request: dict[str, Any]) -> tuple[dict, int | None]:
        """The nearest rows, exactly, and the log position that they reflect."""
        top_k, namespace = request.get("topK", 0), request.get("namespace", "")
        if not 1 <= top_k <= MAX_TOP_K:
            raise invalid(f"topK must be between 1 and {MAX_TOP_K}")
        vector = self._values([request.get("vector")])[0]
        with self._lock:
            place = self._read(namespace)
            ids, rows = list(place.rows), list(place.rows.values())
            if place.matrix is None:
                vectors = np.array([values for values, _ in rows], np.float32)
                place.matrix = vectors.reshape(len(rows), self.dimension or 0)
            matrix, indexed = place.matrix, place.indexed
        admitted = [n for n, (_, metadata) in enumerate(rows) if _admits(request.get("filter") or {}, metadata)]
        scores = self._scores(matrix[admitted], vector) if admitted else np.empty(0)
        order = np.argsort(scores if self.metric == "euclidean" else -scores, kind="stable")[:top_k]
        matches = []
        for position in order.tolist():
            match = {"id": ids[admitted[position]], "score": float(scores[position]), "values": []}
            if request.get("includeMetadata"):
                match["metadata"] = rows[admitted[position]][1]
            matches.append(match)
        if sum(len(orjson.dumps(match)) for match in matches) > MAX_RESULT_BYTES:
            raise invalid("Query result is larger than 4MB")
        answer = {"matches": matches, "namespace": namespace, "usage": {"readUnits": 1}}
        return answer, indexed if namespace in self.namespaces else None

    def stats(self) -> dict:
        """Rows by namespace, as far as reads see them."""
        with self._lock:
            counts = {name: len(self._read(name).rows) for name in self.namespaces}
        return {
            "namespaces": {name: {"vectorCount": count} for name, count in counts.items() if count},
            "indexFullness": 0,
            "totalVectorCount": sum(counts.values()),
            "vectorType": "dense",
            "metric": self.metric,
        } | ({"dimension": self.dimension} if self.dimension else {})

    def _commit(self, place: Namespace, change: Callable[[], None]) -> int:
        place.committed += 1
        place.log.append((place.reads + self.lag_reads, change))
        return place.committed

    def _read(self, namespace: str) -> Namespace:
        place = self.namespaces.get(namespace, Namespace())
        place.reads += 1
        while place.log and place.log[0][0] < place.reads:
            place.log.popleft()[1]()
            place.indexed += 1
            place.matrix = None
        return place

    def _existing(self, namespace: str) -> Namespace:
        if namespace not in self.namespaces:
            raise Refusal(404, 5, "Namespace not found")
        return self.namespaces[namespace]

    def _values(self, values: Sequence[Any]) -> np.ndarray:
        wanted = self.dimension or len(values[0] or [])
        for row in values:
            if len(row or []) != wanted:
                raise invalid(f"Vector dimension {len(row or [])} does not match the dimension of the index {wanted}")
        try:
            made = np.array(values, np.float32)
        except (TypeError, ValueError):
            raise invalid("values: expected numbers") from None
        if not (np.abs(made) >= 1e-8).any(axis=1).all():
            raise invalid("Dense vectors must contain at least one non-zero value.")
        return made

    def _scores(self, stored: np.ndarray, query: np.ndarray) -> np.ndarray:
        if self.metric == "euclidean":
            return ((stored - query) ** 2).sum(axis=1)
        if self.metric == "cosine":
            return stored @ query / (np.linalg.norm(stored, axis=1) * np.linalg.norm(query))
        return stored @ query


def _check_record(key: Any, metadata: dict[str, Any]) -> None:
    if not isinstance(key, str) or not 1 <= len(key) <= 512 or not key.isascii():
        raise invalid(f"Vector ID must be ASCII and 1-512 characters long, but got {key!r}")
    for name, value in metadata.items():
        strings = isinstance(value, list) and all(isinstance(one, str) for one in value)
        if name.startswith("$") or not (strings or isinstance(value, str | bool | int | float)):
            kinds = "a string, number, boolean or list of strings"
            raise invalid(f"Metadata value must be {kinds}, got '{value}' for field '{name}'")
    if (size := len(orjson.dumps(metadata))) > MAX_METADATA_BYTES:
        raise invalid(
            f"Metadata size is {size} bytes, which exceeds the limit of {MAX_METADATA_BYTES} bytes per vector"
        )


def _admits(conditions: dict[str, Any], metadata: dict[str, Any]) -> bool:
    for name, condition in conditions.items():
        wanted = condition if isinstance(condition, dict) else {"$eq": condition}
        if name.startswith("$") or set(wanted) != {"$eq"}:
            raise invalid(f"this server knows no filter but $eq, got {name!r}: {condition}")
        found = metadata.get(name)
        if type(found) is not type(wanted["$eq"]) or found != wanted["$eq"]:
            return False
    return True
