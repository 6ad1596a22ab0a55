"""OpenAI: its service, Azure's, and servers that speak as it does: vLLM, Ollama, LiteLLM, text-embeddings-inference.

Passages and questions are embedded alike, but for the prompts that models such as E5 ask for. OpenAI refuses a
text that is too long; other servers may cut it silently, so that `max_tokens` and `tokenizer` have to be right.
The parameter `dimensions` is sent only for models that can be shortened, as config/models.toml says: others
refuse it. Vectors come as base64, a third of their size as digits, where the server knows how.

The client's variables OPENAI_ORG_ID and OPENAI_PROJECT_ID are honoured; its own retries are switched off.
"""

import json
from typing import Any

import numpy as np
import openai
from tokenizers import Tokenizer

from squadron.embeddings import tokenization
from squadron.embeddings.remote.access import addresses, api_key, host_of, missing_key
from squadron.embeddings.remote.endpoints import Answer, Limits
from squadron.embeddings.remote.failures import (
    BusyServiceError,
    DeniedServiceError,
    UnreachedServiceError,
    failure,
    quotable,
)
from squadron.embeddings.remote.remote_model import RemoteModel
from squadron.embeddings.remote.vector_format import Form, VectorFormat, decoded, is_about_form
from squadron.errors import EmbeddingError
from squadron.settings.credentials import CREDENTIALS, Credential
from squadron.settings.embedding_sections import OpenAISettings
from squadron.settings.known_models import dimension_of, max_tokens_of, width_to_ask_for

OWN = CREDENTIALS["openai"]
AZURE = Credential("AZURE_OPENAI_API_KEY", OWN.connection)
OWN_HOST = "api.openai.com"
CL100K_MODELS = ("text-embedding-3-", "text-embedding-ada-")
NO_CREDIT = ("insufficient_quota", "billing_hard_limit_reached", "billing_not_active")


def vector_space(embedding_settings: OpenAISettings, dimension: int) -> dict[str, str]:
    """What defines the vectors: the model, its width and the prompt; not the place that serves it."""
    return {
        "service": "openai",
        "model": embedding_settings.model,
        "dimension": str(dimension),
        "passage_prompt": embedding_settings.passage_prompt,
    }


def tokenizer(embedding_settings: OpenAISettings) -> Tokenizer:
    """The model's tokenizer, OpenAI's own for its models, else one that counts more (see `tokenization`)."""
    if embedding_settings.tokenizer:
        return tokenization.named_tokenizer(embedding_settings.tokenizer, "embedding.openai.tokenizer")
    if embedding_settings.model.startswith(CL100K_MODELS):
        return tokenization.cl100k()
    return tokenization.coarse()


def model_max_tokens(embedding_settings: OpenAISettings) -> int:
    """Tokens that the model reads of one text, less those of the prompt.

    The prompt's bytes count as tokens unless a tokenizer is named: this limit is part of the vector space, and is to
    be the same whether or not tiktoken can have its vocabulary.
    """
    limit = max_tokens_of("openai", embedding_settings.model, embedding_settings.max_tokens)
    prompt = embedding_settings.passage_prompt
    if prompt and embedding_settings.tokenizer:
        return limit - len(tokenizer(embedding_settings).encode(prompt, add_special_tokens=False))
    return limit - len(prompt.encode())


def dimension(embedding_settings: OpenAISettings) -> int:
    """Width of the vectors: the setting `dimensions`, or the model's own."""
    return dimension_of("openai", embedding_settings.model, embedding_settings.dimensions)


def model(embedding_settings: OpenAISettings, dimension: int) -> RemoteModel:
    """The model behind its endpoints. Nothing is sent yet.

    Raises SettingsError when OpenAI or Azure is to be asked and there is no key; other servers may do without.
    """
    settings = embedding_settings
    credential = AZURE if settings.azure_deployment else OWN
    key = api_key(credential)
    own = settings.azure_deployment or host_of(settings.base_url, "embedding.openai.base_url") == OWN_HOST
    if own and key is None:
        raise missing_key("Azure OpenAI" if settings.azure_deployment else "OpenAI", credential)
    endpoints = [
        _OpenAIEndpoint(settings, url, host, key, dimension)
        for url, host in addresses("openai", settings.base_url, settings.fallback_base_urls)
    ]
    limits = Limits(
        batch_texts=settings.batch_texts,
        batch_tokens=settings.batch_tokens,
        concurrency=settings.concurrency,
        requests_per_minute=settings.requests_per_minute,
        texts_per_minute=None,
        tokens_per_minute=settings.tokens_per_minute,
        timeout_seconds=settings.timeout_seconds,
        deadline_seconds=settings.deadline_seconds,
    )
    return RemoteModel(
        "openai", endpoints, dimension, limits, lambda texts: tokenization.token_counts(tokenizer(settings), texts)
    )


def device(model: RemoteModel) -> str:
    """Where the model runs: the hosts of its endpoints."""
    return model.device


def embeddings(
    model: RemoteModel,
    embedding_settings: OpenAISettings,
    embedding_texts: list[str],
    answered: Any = None,  # an `Answered`: Hamilton cannot check a function's type
) -> np.ndarray:
    """`float32 [texts, dimension]`, unit length, in the order given. See `RemoteModel.embed` for what it raises."""
    return model.embed([embedding_settings.passage_prompt + text for text in embedding_texts], "passages", answered)


def query_vectors(model: RemoteModel, embedding_settings: OpenAISettings, query_texts: list[str]) -> np.ndarray:
    """`float32 [queries, dimension]`, unit length, in the order given."""
    return model.embed([embedding_settings.query_prompt + text for text in query_texts], "questions")


class _OpenAIEndpoint:
    """One address and the client for it."""

    def __init__(self, settings: OpenAISettings, url: str, host: str, key: str | None, dimension: int) -> None:
        self.name = host
        self._settings = settings
        self._key = key
        self._client = _client(settings, url, key)
        self._dimensions = width_to_ask_for("openai", settings.model, dimension) or openai.omit
        self._format = VectorFormat(host, dimension)

    def answer(self, texts: list[str], purpose: str, timeout_seconds: float) -> Answer:
        """One request; a second one, with vectors as digits, if the server turns out not to know base64."""
        return self._format.answer(lambda form: self._once(texts, timeout_seconds, form))

    def _once(self, texts: list[str], timeout_seconds: float, form: Form) -> Answer | None:
        """The answer to one request; None when the server does not take base64."""
        try:
            response = self._client.embeddings.with_raw_response.create(  # its own parsing takes as long as all else
                input=texts,
                model=self._settings.model,
                dimensions=self._dimensions,
                encoding_format=form,
                timeout=timeout_seconds,
            )
            return _answer(json.loads(response.content), len(texts))
        except openai.APIStatusError as error:
            if form == "base64" and is_about_form(error.status_code, error.body, "encoding_format"):
                return None
            failed = self._failure(error)
        except openai.APITimeoutError:
            failed = BusyServiceError(f"did not answer within {timeout_seconds:g} s")
        except openai.APIConnectionError as error:
            failed = UnreachedServiceError(f"cannot be reached, or broke off ({type(error.__cause__).__name__})")
        except (ValueError, TypeError, LookupError) as error:
            failed = BusyServiceError(f"answered what is no list of embeddings ({type(error).__name__})")
        raise failed  # outside of the handlers, so that it carries along no request, and no key

    def _failure(self, error: openai.APIStatusError) -> EmbeddingError:
        credential = AZURE if self._settings.azure_deployment else OWN
        setting = f"{credential.variable}, or the Airflow connection {credential.connection!r}"
        reason = error.body.get("message") if isinstance(error.body, dict) else error.body
        advice = {
            401: f"the key was refused. Correct {setting}" if self._key else f"it wants a key. Set {setting}",
            403: f"the key may not use model {self._settings.model!r}. Allow it, or correct {setting}",
            404: f"it has no model {self._settings.model!r} at this address. Correct embedding.openai.model, base_url "
            "or azure_deployment",
        }
        if error.code in NO_CREDIT or error.type in NO_CREDIT:
            return DeniedServiceError(f"answered {error.status_code}: the account has no credit left. Add some")
        answer = quotable(reason, self._key or "")
        return failure(error.status_code, answer, error.response.headers, advice)


def _client(settings: OpenAISettings, url: str, key: str | None) -> openai.OpenAI:
    common: dict[str, Any] = {
        "api_key": key or "none",  # the client insists on one
        "max_retries": 0,
        "timeout": settings.timeout_seconds,
    }
    if settings.azure_deployment:
        return openai.AzureOpenAI(
            azure_endpoint=url,
            azure_deployment=settings.azure_deployment,
            api_version=settings.azure_api_version,
            **common,
        )
    return openai.OpenAI(base_url=url, **common)


def _answer(body: Any, texts: int) -> Answer:
    """The vectors by their index. Raises ValueError, TypeError or LookupError when the body is garbled."""
    items = sorted(body["data"], key=lambda item: item["index"])
    if [item["index"] for item in items] != list(range(texts)):
        raise DeniedServiceError(f"answered {len(items)} vectors to {texts} texts, not one for each: mend the server")
    billed = (body.get("usage") or {}).get("total_tokens") or 0
    return Answer(decoded([item["embedding"] for item in items]), int(billed))
