"""Weaviate keeps the contract on a real server, the one that WEAVIATE_URL names: `-m live` runs this alone.

What it makes there bears a prefix of its own and is removed; WEAVIATE_GRPC_PORT and WEAVIATE_API_KEY may be set too.
"""

import os
import uuid
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from weaviate.classes.query import Filter

from squadron.settings.store_sections import WeaviateSettings
from squadron.stores.contract import LivePointer
from squadron.stores.weaviate import catalog as weaviate_catalog
from squadron.stores.weaviate import store as weaviate_store
from squadron.stores.weaviate.connection import connected
from squadron.stores.weaviate.schema import class_name
from tests.stores.subject import Store, Unusable
from tests.stores.test_weaviate import WeaviateContract

if not os.environ.get("WEAVIATE_URL"):
    pytest.skip("WEAVIATE_URL names no Weaviate server to try this on", allow_module_level=True)

pytestmark = pytest.mark.live
PREFIX = f"squadron_test_{uuid.uuid4().hex[:8]}_"


class TestLiveWeaviate(WeaviateContract):
    @pytest.fixture
    def store(self) -> Iterator[Store]:
        port = os.environ.get("WEAVIATE_GRPC_PORT")
        settings = WeaviateSettings(uri=os.environ["WEAVIATE_URL"], grpc_port=int(port) if port else None)
        yield PrefixedStore(weaviate_store, settings, secret=os.environ.get("WEAVIATE_API_KEY"))
        _remove_all_of_the_prefix(settings)

    def unusable(self, store: Store, tmp_path: Path) -> Mapping[str, Unusable]:
        nobody = "http://127.0.0.1:9"
        return {"nobody there": Unusable(WeaviateSettings(uri=nobody, max_retries=0), f"store.weaviate.uri {nobody!r}")}

    def test_processes_that_create_and_write_the_same_at_once_store_it_once(self, store: Store) -> None:
        pytest.skip("the other processes do not know the prefix")


class PrefixedStore(Store):
    """A store whose collections and generations bear a prefix on the server, and none here."""

    def call(self, node: str, **values: Any) -> Any:
        names = ("collection_name", "generation", "expected_live")
        return _bare(super().call(node, **values | {name: PREFIX + values[name] for name in names if values.get(name)}))


def _bare(value: Any) -> Any:
    if isinstance(value, dict):
        return {_bare(name): _bare(one) for name, one in value.items()}
    if isinstance(value, LivePointer):
        return LivePointer(**_bare(vars(value)))
    return value.removeprefix(PREFIX) if isinstance(value, str) else value


def _remove_all_of_the_prefix(settings: WeaviateSettings) -> None:
    connection = connected(settings)
    client, prefix = connection.client, class_name(PREFIX)
    for alias in [name for name in client.alias.list_all() if name.startswith(prefix)]:
        client.alias.delete(alias_name=alias)
    client.collections.delete([name for name in client.collections.list_all() if name.startswith(prefix)])
    if client.collections.exists(weaviate_catalog.CATALOG):
        ours = Filter.by_property("collection").like(f"{PREFIX}*")
        client.collections.use(weaviate_catalog.CATALOG).data.delete_many(where=ours)
    connection.close()
