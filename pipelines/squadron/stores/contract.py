"""The contract of the stores: what a store's module offers, node by node, and what it keeps about generations.

A store is a module of functions, and each function is a node of the graph. mypy checks the types of every module
against `Store`, tests/stores/test_parity.py the names, which Hamilton goes by, and tests/stores/contract.py what the
functions do.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol, TypeVar

import numpy as np
import pyarrow as pa

Settings = TypeVar("Settings", contravariant=True)
"""The section of the settings that configures the store."""
Client = TypeVar("Client")
"""The store's connection."""
Table = TypeVar("Table")
"""A generation, opened: a table, a namespace, a class."""


@dataclass(frozen=True)
class StoredRecord:
    """What a store keeps about a generation."""

    text: str
    """JSON. The store does not read it."""
    revision: int
    """1 for the first text, and one more with each write."""


@dataclass(frozen=True)
class LivePointer:
    """Which generation of a collection its readers see."""

    collection: str
    generation: str
    previous: str | None
    """The generation that was live before."""
    revision: int
    """1 for the first promotion, and one more with each."""
    promoted_at: str
    """ISO 8601, in UTC."""


class Store(Protocol[Settings, Client, Table]):
    """The nodes of a store, with their signatures. Each of them raises StoreError when the store refuses."""

    def client(self, store_settings: Settings) -> Client:
        """The connected client. The error names the setting that is missing, or the address that does not answer."""

    def generation_table(
        self,
        client: Client,
        collection_name: str,
        generation: str,
        dimension: int,
        metric: str,
        metadata_columns: Sequence[str],
    ) -> Table:
        """The generation, created with its first record if absent; refused when its dimension or metric differs."""

    def stored_ids(self, generation_table: Table) -> Iterator[pa.Array]:
        """All ids, streamed."""

    def stored_rows(self, generation_table: Table, wanted_ids: pa.Array) -> pa.Table:
        """The rows with these ids that are there, as `record_schema` says, in no order."""

    def rows_written(self, generation_table: Table, records: pa.Table) -> int:
        """The number of distinct records written; rows with the same ids are replaced."""

    def rows_deleted(self, generation_table: Table, expired_ids: pa.Array) -> int:
        """The number of rows deleted."""

    def row_count(self, generation_table: Table) -> int:
        """The exact number of rows."""

    def version(self, generation_table: Table) -> int | None:
        """A number for what the generation holds now; None where the store keeps no earlier versions."""

    def restored(self, generation_table: Table, earlier_version: int) -> int:
        """The number of rows, after the generation holds again what it held at that version."""

    def earlier_table(self, client: Client, generation: str, earlier_version: int) -> Table:
        """The generation as it was at that version, to be searched."""

    def index_built(
        self, generation_table: Table, metric: str, store_settings: Settings, kept_version: int | None
    ) -> str:
        """What searches use, in words; returns when it serves."""

    def matches(
        self, generation_table: Table, query_vectors: np.ndarray, top_k: int, metric: str, filter: dict[str, str]
    ) -> pa.Table:
        """The nearest rows of each query, as `record_checks.MATCH_SCHEMA` says."""

    def generation_records(self, client: Client, collection_name: str) -> dict[str, StoredRecord]:
        """The records of the collection's generations that exist, by the generation's name."""

    def record_stored(
        self, client: Client, collection_name: str, generation: str, record_text: str, expected_revision: int
    ) -> StoredRecord:
        """The record, written in place of the one with the expected revision; 0: the generation has none yet.

        Raises StaleRecordError when the stored record has another revision.
        """

    def live_generation(self, client: Client, collection_name: str) -> LivePointer | None:
        """The live pointer; None before the first promotion."""

    def promoted(self, client: Client, collection_name: str, generation: str, expected_live: str | None) -> LivePointer:
        """The live pointer, moved to the generation.

        Raises StaleLiveError when another generation than `expected_live` is live.
        """

    def dropped(self, client: Client, collection_name: str, generation: str) -> str:
        """The generation's name, after it was removed; the live one is refused, and another collection's."""


if TYPE_CHECKING:
    import lancedb

    from squadron.settings.store_sections import LanceDBSettings, PgvectorSettings, PineconeSettings, WeaviateSettings
    from squadron.stores.lancedb import store as lancedb_store
    from squadron.stores.lancedb.tables import Database as LanceDBDatabase
    from squadron.stores.pgvector import store as pgvector_store
    from squadron.stores.pgvector.connection import Database as PostgresDatabase
    from squadron.stores.pgvector.schema import Table as PostgresTable
    from squadron.stores.pinecone import store as pinecone_store
    from squadron.stores.pinecone.connection import Connection as PineconeConnection
    from squadron.stores.pinecone.rows import Namespace
    from squadron.stores.weaviate import store as weaviate_store
    from squadron.stores.weaviate.connection import Connection as WeaviateConnection
    from squadron.stores.weaviate.schema import Generation

    _lancedb: Store[LanceDBSettings, LanceDBDatabase, lancedb.table.Table] = lancedb_store
    _pgvector: Store[PgvectorSettings, PostgresDatabase, PostgresTable] = pgvector_store
    _pinecone: Store[PineconeSettings, PineconeConnection, Namespace] = pinecone_store
    _weaviate: Store[WeaviateSettings, WeaviateConnection, Generation] = weaviate_store
