"""Pinecone keeps the contract, on a server of ours on loopback; with `-m live` and a key, on the service itself."""

import os
import uuid
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import ClassVar

import pytest
from pinecone import Pinecone

from squadron.settings.store_sections import PineconeSettings
from squadron.stores.pinecone import store as pinecone_store
from squadron.stores.pinecone.connection import Connection
from tests.stores.contract import StoreContract
from tests.stores.subject import Store, Unusable
from tests.wire.pinecone_server import PineconeServer

KEY = "pcsk_contract_0123456789"
WRONG_KEY = "pcsk_wrong_9876543210"


class TestPinecone(StoreContract):
    never: ClassVar[Mapping[str, str]] = {
        "versions": "Pinecone keeps no earlier versions of its rows",
        "compare_and_set": "Pinecone has no conditional write: the pointer is read, compared, written and read again",
        "long_texts": "Pinecone stores 40 KB of metadata with a vector, the text among it",
    }
    rows_over_limits: ClassVar[int] = 2 * pinecone_store.IDS_PER_DELETE + 50
    bytes_over_limits: ClassVar[int] = 5_000_000

    @pytest.fixture
    def store(self, monkeypatch: pytest.MonkeyPatch) -> Iterator[Store]:
        with PineconeServer(KEY) as server:
            monkeypatch.setenv("PINECONE_API_KEY", KEY)
            monkeypatch.setenv("PINECONE_CONTROLLER_HOST", server.url)
            yield Store(pinecone_store, PineconeSettings(max_retries=1), secret=KEY)

    def unusable(self, store: Store, tmp_path: Path) -> Mapping[str, Unusable]:
        nowhere = "http://127.0.0.1:9"
        silent = PineconeSettings(host=nowhere, max_retries=0)
        no_host = PineconeSettings(host="nowhere", max_retries=0)
        no_port = PineconeSettings(host="http://127.0.0.1:http")
        return {
            "no key": Unusable(store.settings, "PINECONE_API_KEY", {"PINECONE_API_KEY": None}),
            "an empty key": Unusable(store.settings, "pinecone_default", {"PINECONE_API_KEY": ""}),
            "a wrong key": Unusable(store.settings, "PINECONE_API_KEY", {"PINECONE_API_KEY": WRONG_KEY}),
            "a key with a line break": Unusable(store.settings, "PINECONE_API_KEY", {"PINECONE_API_KEY": KEY + "\n"}),
            "a silent address": Unusable(silent, f"store.pinecone.host {nowhere!r} cannot be reached"),
            "no address": Unusable(no_host, "store.pinecone.host 'nowhere'"),
            "no port": Unusable(no_port, f"store.pinecone.host {no_port.host!r}"),
        }


@pytest.fixture(scope="module")
def indexes(request: pytest.FixtureRequest) -> Iterator[PineconeSettings]:
    """Settings for indexes of these tests alone, which are removed after them."""
    if "live" not in (request.config.option.markexpr or ""):
        pytest.skip("calls Pinecone: ask for it with -m live")
    settings = PineconeSettings(index=f"squadron-test-{uuid.uuid4().hex[:8]}")
    yield settings
    connection = Connection(settings)
    for index in connection.indexes():
        Pinecone().indexes.delete(index.name)
    connection.close()


@pytest.mark.live
class TestPineconeService(TestPinecone):
    """The contract on the service itself: `PINECONE_API_KEY=… pytest -m live tests/stores/test_pinecone.py`.

    It makes indexes whose names begin with `squadron-test-`, empties them after each test, and removes them.
    """

    __test__ = "PINECONE_API_KEY" in os.environ

    @pytest.fixture
    def store(self, indexes: PineconeSettings) -> Iterator[Store]:
        yield Store(pinecone_store, indexes, secret=os.environ["PINECONE_API_KEY"])
        connection = Connection(indexes)
        for index in connection.indexes():
            for namespace in index.handle.describe_index_stats().namespaces:
                connection.drop(index, namespace)
        connection.close()


@pytest.mark.live
def test_the_service_itself_has_been_asked() -> None:
    if not TestPineconeService.__test__:
        pytest.skip("TestPineconeService calls Pinecone: set PINECONE_API_KEY to a key of your own, and -m live")
