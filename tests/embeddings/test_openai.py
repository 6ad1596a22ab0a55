"""OpenAI keeps the contract, on our server."""

from collections.abc import Iterator

import numpy as np
import pytest

from squadron.embeddings import openai_embeddings
from squadron.embeddings.remote.failures import DeniedServiceError, RefusedTextsError
from squadron.embeddings.tokenization import cl100k, token_counts
from squadron.errors import SettingsError
from squadron.settings.embedding_sections import OpenAISettings
from tests.embeddings.contract import EmbeddingContract
from tests.embeddings.remote_contract import BATCH_TEXTS, CONCURRENCY, PACE, RemoteContract
from tests.embeddings.subject import Service, numbered
from tests.wire.openai_server import MAX_REQUEST_TOKENS, MAX_TEXT_TOKENS, OpenAIServer

KEY = "sk-test-0123456789abcdef"


@pytest.fixture
def server() -> Iterator[OpenAIServer]:
    with OpenAIServer(key=KEY) as server:
        yield server


@pytest.fixture
def service(server: OpenAIServer, monkeypatch: pytest.MonkeyPatch) -> Service:
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    settings = OpenAISettings(
        base_url=f"{server.url}/v1",
        dimensions=256,
        concurrency=CONCURRENCY,
        batch_texts=BATCH_TEXTS,
        timeout_seconds=20,
        deadline_seconds=60,
    )
    return Service(openai_embeddings, settings, server, KEY)


@pytest.fixture
def second() -> Iterator[OpenAIServer]:
    with OpenAIServer(key=KEY) as server:
        yield server


class TestOpenAI(RemoteContract, EmbeddingContract):
    never = {"questions": "OpenAI's models embed questions and passages alike"}
    other_spaces = {
        "model": {"model": "text-embedding-3-large"},
        "width": {"dimensions": 512},
        "full width": {"dimensions": None},
        "prompt": {"passage_prompt": "passage: "},
    }
    same_space = {
        "base_url": "http://127.0.0.1:1/v1",
        "fallback_base_urls": ["http://127.0.0.1:2/v1"],
        **PACE,
        "query_prompt": "query: ",
    }
    variable = "OPENAI_API_KEY"
    connection = "openai_default"
    most_texts = 2048
    own_place = {"base_url": "https://api.openai.com/v1"}

    def base_url(self, url: str) -> str:
        return f"{url}/v1"


def test_the_full_width_of_a_model_equals_no_setting(service: Service) -> None:
    full = service.having(dimensions=1536).value("vector_space")
    assert full == service.having(dimensions=None).value("vector_space")


@pytest.mark.parametrize(
    ("model", "dimensions", "says"),
    [
        ("text-embedding-3-small", 1537, "at most 1536"),
        ("text-embedding-ada-002", 512, "one of 1536"),
    ],
)
def test_a_width_that_the_model_cannot_give_is_refused(
    service: Service, model: str, dimensions: int, says: str
) -> None:
    with pytest.raises(SettingsError, match=rf"dimensions is {dimensions}, {model} gives {says}"):
        service.having(model=model, dimensions=dimensions).value("dimension")


def test_more_tokens_than_the_model_reads_are_refused(service: Service) -> None:
    with pytest.raises(SettingsError, match="max_tokens is 9000, text-embedding-3-small reads 8191"):
        service.having(max_tokens=9000).value("model_max_tokens")


def test_width_is_asked_for_only_where_it_is_not_the_models_own(service: Service, server: OpenAIServer) -> None:
    service.having(model="text-embedding-ada-002", dimensions=None).passages(["one"])
    service.having(dimensions=1536).passages(["one"])
    service.having(dimensions=64).passages(["one"])
    assert [seen.body.get("dimensions") for seen in server.seen] == [None, None, 64]


def test_a_text_beyond_the_limit_is_refused_not_cut(service: Service) -> None:
    with pytest.raises(RefusedTextsError, match=f"maximum context length is {MAX_TEXT_TOKENS} tokens") as raised:
        service.passages(["one", "duck " * (MAX_TEXT_TOKENS + 10)])
    assert set(raised.value.reasons) == {1}


def test_requests_hold_no_more_tokens_than_the_service_takes(service: Service, server: OpenAIServer) -> None:
    (word,) = token_counts(cl100k(), [" duck"])  # five where bytes are counted
    long = [f"{number}" + " duck" * (8000 // word) for number in range(80)]
    assert len(service.having(batch_texts=2048, concurrency=1).passages(long)) == 80
    assert server.billed_tokens > 2 * MAX_REQUEST_TOKENS
    assert len(server.seen) == 3


def test_prompts_stand_before_the_texts_and_take_their_room(service: Service, server: OpenAIServer) -> None:
    own = service.having(passage_prompt="passage: ", query_prompt="query: ")
    own.passages(["duck"])
    own.questions(["duck"])
    assert [seen.texts for seen in server.seen] == [("passage: duck",), ("query: duck",)]
    assert own.value("model_max_tokens") == service.value("model_max_tokens") - len(b"passage: ")


def test_an_account_without_credit_is_not_asked_again(service: Service, server: OpenAIServer) -> None:
    body = '{"error": {"message": "You exceeded your current quota", "code": "insufficient_quota"}}'
    server.faults.add("POST", status=429, body=body)
    with pytest.raises(DeniedServiceError, match="no credit"):
        service.passages(numbered(100))
    assert len(server.seen) == 1


def test_a_server_that_says_not_to_ask_again_is_not(service: Service, server: OpenAIServer) -> None:
    server.faults.add("POST", status=500, headers={"x-should-retry": "false"})
    with pytest.raises(DeniedServiceError, match="500"):
        service.passages(numbered(100))
    assert len(server.seen) == 1


class TestAzure:
    @pytest.fixture
    def azure(self, service: Service, server: OpenAIServer, monkeypatch: pytest.MonkeyPatch) -> Service:
        monkeypatch.delenv("OPENAI_API_KEY")
        monkeypatch.setenv("AZURE_OPENAI_API_KEY", KEY)
        return service.having(base_url=server.url, azure_deployment="ours", azure_api_version="2024-10-21")

    def test_the_deployment_is_asked(self, azure: Service, service: Service, server: OpenAIServer) -> None:
        assert azure.passages(["one"]).shape == (1, 256)
        assert server.seen[0].line == "POST /openai/deployments/ours/embeddings"
        assert server.seen[0].query == {"api-version": ["2024-10-21"]}

    def test_its_vectors_are_those_of_the_model_elsewhere(self, azure: Service, service: Service) -> None:
        assert azure.value("vector_space") == service.value("vector_space")

    def test_a_missing_key_is_named(self, azure: Service, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.delenv("AZURE_OPENAI_API_KEY")
        with pytest.raises(SettingsError, match="AZURE_OPENAI_API_KEY is not set"):
            azure.value("model")

    def test_a_wrong_key_is_named(self, azure: Service, server: OpenAIServer) -> None:
        server.key = "another"
        with pytest.raises(DeniedServiceError, match="AZURE_OPENAI_API_KEY"):
            azure.passages(["one"])


class TestAnotherServer:
    """One that speaks as OpenAI does, such as vLLM with a model of its own."""

    @pytest.fixture
    def own_server(self) -> Iterator[OpenAIServer]:
        with OpenAIServer() as server:
            server.models = {"BAAI/bge-small": 48}
            server.shortens = False
            server.counts_tokens = False
            yield server

    @pytest.fixture
    def own(self, service: Service, own_server: OpenAIServer, monkeypatch: pytest.MonkeyPatch) -> Service:
        monkeypatch.delenv("OPENAI_API_KEY")
        return service.having(base_url=f"{own_server.url}/v1", model="BAAI/bge-small", dimensions=48, max_tokens=512)

    def test_it_needs_no_key(self, own: Service) -> None:
        assert own.passages(["one", "two"]).shape == (2, 48)

    def test_it_is_not_asked_for_a_width(self, own: Service, own_server: OpenAIServer) -> None:
        own.passages(["one"])
        assert "dimensions" not in own_server.seen[0].body

    def test_a_width_said_wrong_is_noticed(self, own: Service) -> None:
        with pytest.raises(DeniedServiceError, match=r"48 dimensions.*wanted 64"):
            own.having(dimensions=64).passages(["one"])

    def test_it_may_want_a_key(self, own: Service, own_server: OpenAIServer) -> None:
        own_server.key = KEY
        with pytest.raises(DeniedServiceError, match=r"it wants a key\. Set OPENAI_API_KEY"):
            own.passages(["one"])

    def test_its_tokens_are_counted_with_care(self, own: Service, service: Service) -> None:
        text = "The development of railways changed how people thought about distance."
        assert len(own.value("tokenizer").encode(text)) > len(service.value("tokenizer").encode(text))

    def test_smaller_requests_are_learned_from_refusals(self, own: Service, own_server: OpenAIServer) -> None:
        own_server.most_texts = 5
        vectors = own.passages(numbered(40))
        assert np.allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-5)
        assert set(own_server.embedded.values()) == {1}
