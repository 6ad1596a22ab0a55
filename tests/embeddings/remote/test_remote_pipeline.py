"""A corpus goes through the whole pipeline, its vectors from our servers over the services' own clients."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from squadron.generations import model_canary as canary
from squadron.generations.search import search
from squadron.runs.whole_run import ingest
from squadron.settings.layers import Layer, resolve
from squadron.settings.schema import Settings
from tests.wire.cohere_server import CohereServer
from tests.wire.embedding_service import EmbeddingServer
from tests.wire.openai_server import OpenAIServer

KEY = "test-0123456789abcdef"


@pytest.fixture(params=[("openai", OpenAIServer, "/v1"), ("cohere", CohereServer, "")], ids=["openai", "cohere"])
def served(
    request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[tuple[Settings, EmbeddingServer]]:
    """Settings for the sample corpus and a folder of its own, and the server that embeds it."""
    service, server_class, path = request.param
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    monkeypatch.setenv("CO_API_KEY", KEY)
    with server_class(key=KEY) as server:
        values = {
            "source.name": "sample",
            "embedding.service": service,
            f"embedding.{service}.base_url": server.url + path,
            "embedding.cohere.texts_per_minute": None,
            "store.lancedb.uri": str(tmp_path / "lancedb"),
            "ingest.staging": str(tmp_path / "staging"),
            "cache.path": str(tmp_path / "cache"),
        }
        yield resolve([Layer("the test", values, tmp_path)]).settings, server


def test_a_corpus_is_embedded_once_and_found(served: tuple[Settings, EmbeddingServer]) -> None:
    settings, server = served
    first = ingest(settings)
    passages = first["counts"]["passages"]
    assert first["counts"]["embedded"] == passages > 50
    assert first["metrics"]["recall_at_10"] > 0.5
    assert set(server.embedded.values()) == {1}
    assert set(canary.TEXTS) <= set(server.embedded)
    if settings.embedding.service == "cohere":
        assert {seen.body["input_type"] for seen in server.seen} == {"search_document", "search_query"}
        assert {seen.body["truncate"] for seen in server.seen} == {"NONE"}
    requests = len(server.seen)

    second = ingest(settings)
    assert second["counts"]["unchanged"] == passages
    assert second["counts"]["embedded"] == 0
    assert sorted(text for seen in server.seen[requests:] for text in seen.texts) == sorted(canary.TEXTS)
    requests = len(server.seen)

    (best, *_) = search(settings, "Which river is the longest?", top_k=3)
    assert best["score"] > 0
    assert len(server.seen) == requests + 1
