"""Pinecone's indexes, and queries that see what was written.

The service is eventually consistent. Every write is answered with its position in the log of its namespace, and
every query with the position that its answer reflects: a query of this process is repeated until it reflects
what this process wrote.
"""

import os
import re
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from threading import Lock
from typing import Any

import httpx
import msgspec
import pinecone
from pinecone._internal.adapters import indexes_adapter, vectors_adapter
from pinecone.errors import ConflictError, ForbiddenError, NotFoundError, PineconeError

from squadron.errors import SettingsError, StoreError
from squadron.settings.store_sections import PineconeSettings
from squadron.stores.pinecone.requests import KEY, Requests

METRICS = {"cosine": "cosine", "dot": "dotproduct", "l2": "euclidean"}
_OUR_WORDS = {theirs: ours for ours, theirs in METRICS.items()}
# No record has this id: an update of it changes nothing, but is answered with a position in the log.
_NO_RECORD = "-"


@dataclass(frozen=True)
class VectorIndex:
    """An index of the service: vectors of one dimension, compared by one metric."""

    name: str
    dimension: int
    """0 in a local server that has not seen a vector yet."""
    metric: str | None
    handle: pinecone.Index = field(repr=False)


class Connection(Requests):
    """A project's indexes that have the configured name, or the one index that has the configured address."""

    def __init__(self, settings: PineconeSettings) -> None:
        key = os.environ.get(KEY.variable)
        if not key:
            raise SettingsError(
                f"the environment variable {KEY.variable} is not set: set it to a key of your Pinecone project, "
                f"in Airflow as the connection {KEY.connection!r}"
            )
        super().__init__(settings)
        try:
            self._service = pinecone.Pinecone(
                api_key=key,
                timeout=settings.timeout_seconds,
                connection_pool_maxsize=2 * settings.concurrency,
                retry_config=pinecone.RetryConfig(max_retries=0),
            )
        except PineconeError as error:
            raise SettingsError(f"the environment variable {KEY.variable} cannot be a key: {error}") from error
        self._opened: dict[str, pinecone.Index] = {}
        self._committed: dict[tuple[str, str], int] = {}
        self._lock = Lock()

    def __repr__(self) -> str:
        return f"Connection({self.address})"

    def close(self) -> None:
        """Close the connections."""
        super().close()
        for index in self._opened.values():
            index.close()
        self._service.close()

    def indexes(self) -> list[VectorIndex]:
        """The indexes that exist."""
        if self.settings.host:
            return [self._addressed(self.settings.host)]
        models = self.call("listing indexes", lambda: list(self._service.indexes.list()))
        name = re.compile(rf"{self.settings.index}-(\d+)-({'|'.join(_OUR_WORDS)})")
        ready = [model for model in models if model.status.ready and model.host]
        ours = [(model, shape) for model in ready if (shape := name.fullmatch(model.name))]
        return [VectorIndex(m.name, int(shape[1]), _OUR_WORDS[shape[2]], self._open(m.host or "")) for m, shape in ours]

    def index_for(self, dimension: int, metric: str) -> VectorIndex:
        """The index for such vectors, created if absent. Raises StoreError when the configured one differs."""
        if not self.settings.host:
            shaped = [index for index in self.indexes() if (index.dimension, index.metric) == (dimension, metric)]
            return shaped[0] if shaped else self._create(dimension, metric)
        index = self._addressed(self.settings.host)
        if (index.dimension or dimension, index.metric or metric) != (dimension, metric):
            raise StoreError(
                f"{self.address} is an index of {index.dimension} dimensions compared by {index.metric}, this run "
                f"wants {dimension} by {metric}: address another one, or set store.pinecone.index and no host"
            )
        return VectorIndex(index.name, dimension, metric, index.handle)

    def query(self, index: VectorIndex, namespace: str, query: Mapping[str, Any]) -> pinecone.QueryResponse:
        """The answer to a query, once it reflects all that this process wrote into the namespace."""
        written = self._committed.get((index.name, namespace), 0)
        ask = partial(index.handle.query, namespace=namespace, **query)
        for _ in self.polls():
            answer = self.call(f"searching {namespace}", ask)
            reached = answer.response_info.lsn_reconciled if answer.response_info else None
            if reached is None or reached >= written:
                return answer
        raise StoreError(
            f"{namespace} does not show what was written {self.settings.consistency_seconds:g} s ago: "
            "try again later, or raise store.pinecone.consistency_seconds"
        )

    def committed(self, index: VectorIndex, namespace: str, response: Any) -> None:
        """Remember the log position of a write."""
        position = response.response_info and response.response_info.lsn_committed
        with self._lock:
            before = self._committed.get((index.name, namespace), 0)
            self._committed[index.name, namespace] = max(before, position or 0)

    def settle(self, index: VectorIndex, namespace: str) -> None:
        """Wait until queries reflect what anyone has written into the namespace until now."""
        if not index.dimension:
            return
        update = partial(index.handle.update, id=_NO_RECORD, set_metadata={"-": True}, namespace=namespace)
        try:
            response = self.call(f"asking for the log of {namespace}", update, (NotFoundError, ForbiddenError))
        except (NotFoundError, ForbiddenError):  # there is no namespace yet, or this key only reads
            return
        self.committed(index, namespace, response)
        self.query(index, namespace, {"vector": any_vector(index.dimension), "top_k": 1})

    def drop(self, index: VectorIndex, namespace: str) -> None:
        """Remove a namespace, if there is one, with all that is in it."""
        remove = partial(index.handle.delete_namespace, name=namespace)
        with suppress(NotFoundError):
            self.call(f"removing {namespace}", remove, (NotFoundError,))
        with self._lock:
            self._committed.pop((index.name, namespace), None)

    def _addressed(self, host: str) -> VectorIndex:
        index = self._open(host)
        stats = self.call("describing the index", index.describe_index_stats)
        return VectorIndex(host, stats.dimension or 0, _OUR_WORDS.get(stats.metric or ""), index)

    def _open(self, host: str) -> pinecone.Index:
        with self._lock:
            if host not in self._opened:
                try:
                    self._opened[host] = _without_own_retries(self._service.index(host=host))
                except (PineconeError, httpx.InvalidURL) as error:
                    raise StoreError(f"{self.address} is not an address: {error}") from error
            return self._opened[host]

    def _create(self, dimension: int, metric: str) -> VectorIndex:
        name = f"{self.settings.index}-{dimension}-{METRICS[metric]}"
        deployment = {"deployment_type": "managed", "cloud": self.settings.cloud, "region": self.settings.region}
        values = {"type": "dense_vector", "dimension": dimension, "metric": METRICS[metric]}
        # An index whose only field has this name takes records of id, vector and metadata.
        schema = {"fields": {"_values": values}}
        create = partial(self._service.indexes.create, name=name, schema=schema, deployment=deployment, timeout=-1)
        with suppress(ConflictError):  # another process was faster
            self.call(f"creating the index {name!r}", create, (ConflictError,))
        for _ in self.polls():
            model = self.call(f"describing the index {name!r}", partial(self._service.indexes.describe, name))
            if model.status.ready and model.host:
                return VectorIndex(name, dimension, metric, self._open(model.host))
        raise StoreError(
            f"the index {name!r} was not ready after {self.settings.consistency_seconds:g} s: try again, "
            "or raise store.pinecone.consistency_seconds"
        )


def any_vector(dimension: int) -> list[float]:
    """A vector for requests that need one, whichever it is."""
    return [1.0] + [0.0] * (dimension - 1)


def _without_own_retries(index: pinecone.Index) -> pinecone.Index:
    """The client repeats requests to an index three times, which no setting changes: our repeats would multiply."""
    transport: Any = index._http._client._transport
    transport._config = pinecone.RetryConfig(max_retries=0)
    return index


def _learn_answers() -> None:
    """Let msgspec learn the types of the client's answers now, while modules are imported one at a time.

    Two threads that both meet a type for the first time have crashed the interpreter (msgspec 0.22, `Fatal Python
    error: Segmentation fault` in `decode_response`): writes and listings run in many threads.
    """
    for adapter in (indexes_adapter, vectors_adapter):
        for answer in vars(adapter).values():
            if isinstance(answer, type) and issubclass(answer, msgspec.Struct):
                with suppress(TypeError):  # a request's type, which is never read
                    msgspec.json.Decoder(answer)


_learn_answers()
