"""The subject of the contract: a store's module with settings, and rows and numbers to try it with."""

import json
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future, ProcessPoolExecutor, ThreadPoolExecutor
from dataclasses import dataclass, field
from hashlib import blake2b
from importlib import import_module
from inspect import signature
from multiprocessing import get_context
from threading import Barrier
from types import ModuleType
from typing import Any

import numpy as np
import pyarrow as pa
from pydantic import BaseModel

from squadron.stores.contract import LivePointer, StoredRecord
from squadron.stores.record_schema import VECTOR_COLUMN

COLLECTION = "squad"
BLUE, GREEN = "squad_0000b10e", "squad_000062ee"
"""Two generations of COLLECTION."""
DIMENSION = 8
METRICS = ("cosine", "dot", "l2")


@dataclass
class Store:
    """A store module and the settings to call it with; each method calls one node of the module."""

    module: ModuleType
    settings: BaseModel
    secret: str | None = None
    """What no message, log or repr may show."""
    _clients: list[Any] = field(default_factory=list, repr=False)

    def call(self, node: str, **values: Any) -> Any:
        """The node's function, given those of the values that it declares."""
        function = getattr(self.module, node)
        values = {"store_settings": self.settings} | values
        return function(**{name: values[name] for name in signature(function).parameters if name in values})

    def client(self) -> Any:
        """A client of its own."""
        self._clients.append(self.call("client"))
        return self._clients[-1]

    @property
    def first_client(self) -> Any:
        """The client that calls use when they are given none."""
        return self._clients[0] if self._clients else self.client()

    def generation(
        self,
        name: str = BLUE,
        *,
        collection_name: str = COLLECTION,
        dimension: int = DIMENSION,
        metric: str = "cosine",
        metadata_columns: Sequence[str] = (),
        client: Any = None,
    ) -> "Generation":
        """A generation, created if absent."""
        opened = self.call(
            "generation_table",
            client=client or self.first_client,
            collection_name=collection_name,
            generation=name,
            dimension=dimension,
            metric=metric,
            metadata_columns=tuple(metadata_columns),
        )
        return Generation(self, opened, metric)

    def records(self, collection_name: str = COLLECTION, client: Any = None) -> dict[str, StoredRecord]:
        """The records of the generations, as they are stored."""
        return self._catalog("generation_records", collection_name, client)

    def record(self, generation: str, text: str, expected_revision: int, client: Any = None) -> StoredRecord:
        """The generation's record, written in place of the one with the expected revision."""
        values = {"record_text": text, "expected_revision": expected_revision}
        return self._catalog("record_stored", COLLECTION, client, generation=generation, **values)

    def generations(self, collection_name: str = COLLECTION) -> dict[str, dict[str, Any]]:
        """What the records say, but for since when the generations are there."""
        found = {name: json.loads(record.text) for name, record in self.records(collection_name).items()}
        return {name: {k: v for k, v in about.items() if k != "created_at"} for name, about in found.items()}

    def created_at(self, generation: str) -> str:
        return json.loads(self.records()[generation].text)["created_at"]

    def live(self, collection_name: str = COLLECTION) -> LivePointer | None:
        return self._catalog("live_generation", collection_name)

    def describe(self, generation: str, description: dict[str, Any], collection_name: str = COLLECTION) -> StoredRecord:
        """The generation's record, written in place of whichever is there."""
        values = {
            "record_text": json.dumps(description),
            "expected_revision": self.records(collection_name)[generation].revision,
        }
        return self._catalog("record_stored", collection_name, generation=generation, **values)

    def promote(
        self, generation: str, expected_live: str | None, collection_name: str = COLLECTION, client: Any = None
    ) -> LivePointer:
        given = {"generation": generation, "expected_live": expected_live}
        return self._catalog("promoted", collection_name, client, **given)

    def drop(self, generation: str, collection_name: str = COLLECTION) -> str:
        return self._catalog("dropped", collection_name, generation=generation)

    def close(self) -> None:
        """Close the clients that can be closed."""
        for client in self._clients:
            if close := getattr(client, "close", None):
                close()

    def _catalog(self, node: str, collection_name: str, client: Any = None, **values: Any) -> Any:
        return self.call(node, client=client or self.first_client, collection_name=collection_name, **values)


@dataclass
class Generation:
    """One generation, opened."""

    store: Store
    table: Any
    metric: str

    def write(self, rows: pa.Table) -> int:
        return self._call("rows_written", records=rows)

    def delete(self, ids: Sequence[str]) -> int:
        return self._call("rows_deleted", expired_ids=pa.array(ids, pa.string()))

    def rows(self, ids: Sequence[str]) -> pa.Table:
        return self._call("stored_rows", wanted_ids=pa.array(ids, pa.string()))

    def version(self) -> int | None:
        return self._call("version")

    def restore(self, version: int) -> int:
        return self._call("restored", earlier_version=version)

    def ids(self) -> list[str]:
        return [key for part in self._call("stored_ids") for key in part.to_pylist()]

    def count(self) -> int:
        return self._call("row_count")

    def build_index(self, kept_version: int | None = None) -> str:
        return self._call("index_built", kept_version=kept_version)

    def earlier(self, version: int) -> "Generation":
        """The generation as it was at that version."""
        client, name = self.store.first_client, self.table.name
        opened = self.store.call("earlier_table", client=client, generation=name, earlier_version=version)
        return Generation(self.store, opened, self.metric)

    def search(self, queries: np.ndarray, top_k: int = 10, filter: Mapping[str, str] | None = None) -> pa.Table:
        return self._call("matches", query_vectors=queries, top_k=top_k, filter=dict(filter or {}))

    def found(self, filter: Mapping[str, str] | None = None) -> list[str]:
        """The ids that a search with room for all finds, in their own order."""
        return sorted(self.search(vectors(1, seed=5), top_k=1000, filter=filter)["id"].to_pylist())

    def _call(self, node: str, **values: Any) -> Any:
        return self.store.call(node, generation_table=self.table, metric=self.metric, **values)


@dataclass(frozen=True)
class Unusable:
    """Settings or an environment that no client can be made of."""

    settings: BaseModel
    names: str
    """What the error has to name: a setting, or a variable of the environment."""
    environment: Mapping[str, str | None] = field(default_factory=dict)
    """Variables set for the attempt; None: unset."""


def passage_id(row: int) -> str:
    """The id of a row: 32 hex digits."""
    return f"{blake2b(str(row).encode(), digest_size=12).hexdigest()}00000001"


def ids(rows: range) -> list[str]:
    """Their ids, in order of the alphabet."""
    return sorted(passage_id(row) for row in rows)


def vectors(count: int, dimension: int = DIMENSION, seed: int = 1) -> np.ndarray:
    """`float32 [count, dimension]`, not of unit length: a score by cosine differs from one by dot."""
    return np.random.default_rng(seed).normal(size=(count, dimension), scale=0.5).astype(np.float32)


def records(rows: range, dimension: int = DIMENSION, **columns: Sequence[str | None]) -> pa.Table:
    """A record per row number; `columns` are metadata, or in place of `document_id`, `title`, `text` or `vector`."""
    values = vectors(rows.stop, dimension)[rows.start :]
    table = {
        "id": pa.array([passage_id(row) for row in rows], pa.string()),
        "document_id": pa.array([f"document {row}" for row in rows], pa.string()),
        "title": pa.array([f"Title {row}" for row in rows], pa.string()),
        "ordinal": pa.array([0] * len(rows), pa.int32()),
        "text": pa.array([f"text of document {row}" for row in rows], pa.string()),
    }
    metadata = {name: pa.array(given, pa.string()) for name, given in columns.items()}
    return with_vectors(pa.table(table | metadata), values)


def with_vectors(rows: pa.Table, values: np.ndarray) -> pa.Table:
    """The rows with these vectors."""
    kept = rows.drop_columns([VECTOR_COLUMN]) if VECTOR_COLUMN in rows.column_names else rows
    column = pa.FixedSizeListArray.from_arrays(pa.array(values.ravel(), pa.float32()), values.shape[1])
    return kept.append_column(VECTOR_COLUMN, column)


def vectors_of(rows: pa.Table) -> np.ndarray:
    """`float32 [rows, dimension]`: the vectors of records."""
    return np.array(rows[VECTOR_COLUMN].to_pylist(), np.float32)


def exact_scores(queries: np.ndarray, stored: np.ndarray, metric: str) -> np.ndarray:
    """`float64 [queries, rows]`: cosine similarity, inner product, or minus the squared Euclidean distance."""
    queries, stored = queries.astype(np.float64), stored.astype(np.float64)
    if metric == "l2":
        return -((queries[:, None] - stored) ** 2).sum(-1)
    if metric == "cosine":
        queries = queries / np.linalg.norm(queries, axis=1, keepdims=True)
        stored = stored / np.linalg.norm(stored, axis=1, keepdims=True)
    return queries @ stored.T


def at_once(*actions: Callable[[], Any]) -> list[Any]:
    """What each of the actions returned or raised, in threads that start together."""
    barrier = Barrier(len(actions))

    def run(action: Callable[[], Any]) -> Any:
        barrier.wait(60)
        return action()

    with ThreadPoolExecutor(len(actions)) as threads:
        return [_outcome(future) for future in [threads.submit(run, action) for action in actions]]


def at_once_in_processes(store: Store, action: Callable[[Store, Any], Any], arguments: Sequence[Any]) -> list[Any]:
    """What `action(store, argument)` returned or raised, in processes that start together; a module's function."""
    spawn = get_context("spawn")
    barrier = spawn.Barrier(len(arguments))
    with ProcessPoolExecutor(len(arguments), spawn, initializer=_keep_barrier, initargs=(barrier,)) as processes:
        made = (store.module.__name__, store.settings)
        return [_outcome(future) for future in [processes.submit(_act, made, action, one) for one in arguments]]


_barriers: list[Any] = []


def _keep_barrier(barrier: Any) -> None:
    _barriers.append(barrier)


def _act(made: tuple[str, BaseModel], action: Callable[[Store, Any], Any], argument: Any) -> Any:
    store = Store(import_module(made[0]), made[1])
    _barriers[0].wait(120)
    try:
        return action(store, argument)
    finally:
        store.close()


def _outcome(future: Future) -> Any:
    return future.exception() or future.result()
