"""Cohere keeps the contract, on our server."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from squadron.embeddings import cohere_embeddings
from squadron.embeddings.remote.failures import DeniedServiceError, RefusedTextsError
from squadron.errors import SettingsError
from squadron.settings.embedding_sections import CohereSettings
from tests.embeddings.contract import EmbeddingContract
from tests.embeddings.remote_contract import BATCH_TEXTS, CONCURRENCY, PACE, RemoteContract
from tests.embeddings.subject import Service, numbered
from tests.wire.cohere_server import CohereServer

KEY = "co-test-0123456789abcdef"


@pytest.fixture
def server() -> Iterator[CohereServer]:
    with CohereServer(key=KEY) as server:
        yield server


@pytest.fixture
def second() -> Iterator[CohereServer]:
    with CohereServer(key=KEY) as server:
        yield server


@pytest.fixture
def service(server: CohereServer, monkeypatch: pytest.MonkeyPatch) -> Service:
    monkeypatch.setenv("CO_API_KEY", KEY)
    settings = CohereSettings(
        model="embed-english-v3.0",
        base_url=server.url,
        concurrency=CONCURRENCY,
        batch_texts=BATCH_TEXTS,
        texts_per_minute=None,
        timeout_seconds=20,
        deadline_seconds=60,
    )
    return Service(cohere_embeddings, settings, server, KEY)


class TestCohere(RemoteContract, EmbeddingContract):
    other_spaces = {
        "model": {"model": "embed-multilingual-v3.0"},
        "v4": {"model": "embed-v4.0"},
        "width": {"model": "embed-v4.0", "dimensions": 256},
    }
    same_space = {
        "base_url": "http://127.0.0.1:1",
        "fallback_base_urls": ["http://127.0.0.1:2"],
        **PACE,
        "texts_per_minute": 1,
    }
    variable = "CO_API_KEY"
    connection = "cohere_default"
    most_texts = 96
    own_place = {"base_url": "https://api.cohere.com"}


def test_passages_and_questions_say_what_they_are(service: Service, server: CohereServer) -> None:
    service.passages(["a duck"])
    service.questions(["a duck"])
    assert [seen.body["input_type"] for seen in server.seen] == ["search_document", "search_query"]


@pytest.mark.parametrize("dimensions", [256, 512, 1024, 1536])
def test_the_model_can_be_asked_for_shorter_vectors(service: Service, server: CohereServer, dimensions: int) -> None:
    own = service.having(model="embed-v4.0", dimensions=dimensions)
    assert own.passages(["one", "two"]).shape == (2, dimensions)
    assert server.seen[0].body.get("output_dimension") == (None if dimensions == 1536 else dimensions)


def test_a_width_that_the_model_cannot_give_is_refused(service: Service) -> None:
    with pytest.raises(SettingsError, match=r"dimensions is 300, embed-v4\.0 gives one of 256, 512, 1024, 1536"):
        service.having(model="embed-v4.0", dimensions=300).value("dimension")


def test_a_text_beyond_the_limit_is_refused_not_cut(service: Service) -> None:
    with pytest.raises(RefusedTextsError, match="too many tokens") as raised:
        service.passages(["one", "duck " * 600])
    assert set(raised.value.reasons) == {1}


def test_vectors_that_the_service_does_not_scale_are_scaled(service: Service, server: CohereServer) -> None:
    given = server.vectors(["a duck"], 1024, salt="embed-english-v3.0", scale=2.5)
    assert np.linalg.norm(given) > 2
    assert np.linalg.norm(service.passages(["a duck"])) == pytest.approx(1, abs=1e-6)


def test_the_calls_of_a_trial_key_may_be_used_up(service: Service, server: CohereServer) -> None:
    body = '{"message": "You are using a Trial key, which is limited to 1000 API calls / month."}'
    server.faults.add("POST", status=429, body=body)
    with pytest.raises(DeniedServiceError, match="Trial key"):
        service.passages(numbered(100))
    assert len(server.seen) == 1


def test_english_models_are_counted_by_their_own_vocabulary(service: Service) -> None:
    text = "The development of railways changed how people thought about distance."
    multilingual = service.having(model="embed-multilingual-v3.0")
    assert len(service.value("tokenizer").encode(text)) == 13
    assert len(multilingual.value("tokenizer").encode(text)) > 13


def test_a_tokenizer_can_be_named(service: Service, tmp_path: Path) -> None:
    multilingual = service.having(model="embed-multilingual-v3.0")
    service.value("tokenizer").save(str(tmp_path / "tokenizer.json"))
    named = multilingual.having(tokenizer=str(tmp_path)).value("tokenizer")
    assert len(named.encode("one duck")) == 4
    assert multilingual.having(tokenizer=str(tmp_path)).value("vector_space") == multilingual.value("vector_space")


def test_a_tokenizer_that_is_not_there_is_named(service: Service) -> None:
    named = service.having(tokenizer="no/such/tokenizer.json")
    with pytest.raises(SettingsError, match=r"embedding\.cohere\.tokenizer is 'no/such/tokenizer\.json'"):
        named.value("tokenizer")
