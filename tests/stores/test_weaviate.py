"""Weaviate keeps the contract, on a server of ours on loopback."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import ClassVar

import pytest

from squadron.settings.store_sections import WeaviateSettings
from squadron.stores.weaviate import rows as weaviate_rows
from squadron.stores.weaviate import store as weaviate_store
from tests.stores.contract import StoreContract
from tests.stores.subject import Store, Unusable
from tests.wire.weaviate_server import WeaviateServer

KEY = "weaviate-key-0123456789"
WRONG_KEY = "weaviate-key-9876543210"
VARIABLE = "WEAVIATE_API_KEY"


class WeaviateContract(StoreContract):
    never: ClassVar[Mapping[str, str]] = {
        "versions": "Weaviate keeps no earlier versions of its rows",
        "compare_and_set": "Weaviate has no conditional write: the pointer is read, compared, written and read again",
    }
    rows_over_limits = weaviate_rows.IDS_PER_DELETE + 500
    bytes_over_limits = weaviate_rows.BYTES_PER_MESSAGE + 1_000_000


class TestWeaviate(WeaviateContract):
    @pytest.fixture
    def store(self, monkeypatch: pytest.MonkeyPatch) -> Iterator[Store]:
        monkeypatch.setenv(VARIABLE, KEY)
        with WeaviateServer(key=KEY) as server:
            settings = WeaviateSettings(uri=server.uri, grpc_port=server.grpc_port)
            yield Store(weaviate_store, settings, secret=KEY)

    def unusable(self, store: Store, tmp_path: Path) -> Mapping[str, Unusable]:
        nobody = "http://127.0.0.1:9"
        half = store.settings.model_copy(update={"grpc_port": 9, "max_retries": 0})
        return {
            "nobody there": Unusable(WeaviateSettings(uri=nobody, max_retries=0), f"store.weaviate.uri {nobody!r}"),
            "nobody at the gRPC port": Unusable(half, "store.weaviate.grpc_port"),
            "no address": Unusable(WeaviateSettings(uri="127.0.0.1:8080"), "store.weaviate.uri"),
            "no key": Unusable(store.settings, VARIABLE, {VARIABLE: None}),
            "a wrong key": Unusable(store.settings, "weaviate_default", {VARIABLE: WRONG_KEY}),
            "a key with a line break": Unusable(store.settings, VARIABLE, {VARIABLE: f"{KEY}\n{KEY}"}),
        }
