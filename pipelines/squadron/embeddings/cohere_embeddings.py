"""Cohere: passages and questions are embedded differently, as its parameter `input_type` asks.

A text that is too long is refused, not cut: `truncate` is NONE. Cohere's tokenizers are not on this machine, so
passages are cut by a tokenizer that counts more than the model does (see `tokenization`); for its multilingual
models, naming Cohere's own on the hub, such as Cohere/Cohere-embed-multilingual-v3.0, makes them longer.
"""

from typing import Any

import cohere
import httpx
import numpy as np
from cohere.core.api_error import ApiError
from cohere.core.parse_error import ParsingError
from tokenizers import Tokenizer

from squadron.embeddings import tokenization
from squadron.embeddings.remote.access import addresses, api_key, missing_key
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
from squadron.settings.credentials import CREDENTIALS
from squadron.settings.embedding_sections import CohereSettings
from squadron.settings.known_models import dimension_of, max_tokens_of, width_to_ask_for

OWN = CREDENTIALS["cohere"]
INPUT_TYPE_TOKENS = 2
"""Kept free in each text: a model reads the input type as a token before it."""


def vector_space(embedding_settings: CohereSettings, dimension: int) -> dict[str, str]:
    """What defines the vectors: the model and its width; not the place that serves it."""
    return {"service": "cohere", "model": embedding_settings.model, "dimension": str(dimension)}


def tokenizer(embedding_settings: CohereSettings) -> Tokenizer:
    """BERT's for the English models, else one that counts more than the model's (see `tokenization`)."""
    if embedding_settings.tokenizer:
        return tokenization.named_tokenizer(embedding_settings.tokenizer, "embedding.cohere.tokenizer")
    if embedding_settings.model.startswith("embed-english-"):
        return tokenization.wordpiece()
    return tokenization.coarse()


def model_max_tokens(embedding_settings: CohereSettings) -> int:
    """Tokens that the model reads of one text, less that of the input type."""
    limit = max_tokens_of("cohere", embedding_settings.model, embedding_settings.max_tokens)
    return limit - INPUT_TYPE_TOKENS


def dimension(embedding_settings: CohereSettings) -> int:
    """Width of the vectors: the setting `dimensions`, or the model's own."""
    return dimension_of("cohere", embedding_settings.model, embedding_settings.dimensions)


def model(embedding_settings: CohereSettings, dimension: int) -> RemoteModel:
    """The model behind its endpoints. Nothing is sent yet. Raises SettingsError when there is no key."""
    settings = embedding_settings
    key = api_key(OWN)
    if key is None:
        raise missing_key("Cohere", OWN)
    endpoints = [
        _CohereEndpoint(settings, url, host, key, dimension)
        for url, host in addresses("cohere", settings.base_url, settings.fallback_base_urls)
    ]
    limits = Limits(
        batch_texts=settings.batch_texts,
        batch_tokens=settings.batch_texts * 128_000,  # Cohere names no limit for a request but that of its texts
        concurrency=settings.concurrency,
        requests_per_minute=settings.requests_per_minute,
        texts_per_minute=settings.texts_per_minute,
        tokens_per_minute=settings.tokens_per_minute,
        timeout_seconds=settings.timeout_seconds,
        deadline_seconds=settings.deadline_seconds,
    )
    return RemoteModel(
        "cohere", endpoints, dimension, limits, lambda texts: tokenization.token_counts(tokenizer(settings), texts)
    )


def device(model: RemoteModel) -> str:
    """Where the model runs: the hosts of its endpoints."""
    return model.device


def embeddings(
    model: RemoteModel,
    embedding_texts: list[str],
    answered: Any = None,  # an `Answered`: Hamilton cannot check a function's type
) -> np.ndarray:
    """`float32 [texts, dimension]`, unit length, in the order given. See `RemoteModel.embed` for what it raises."""
    return model.embed(embedding_texts, "search_document", answered)


def query_vectors(model: RemoteModel, query_texts: list[str]) -> np.ndarray:
    """`float32 [queries, dimension]`, unit length, in the order given."""
    return model.embed(query_texts, "search_query")


class _CohereEndpoint:
    """One address and the client for it."""

    def __init__(self, settings: CohereSettings, url: str, host: str, key: str, dimension: int) -> None:
        self.name = host
        self._settings = settings
        self._key = key
        self._client = cohere.ClientV2(key, base_url=url, timeout=settings.timeout_seconds, max_retries=0)
        width = width_to_ask_for("cohere", settings.model, dimension)
        self._width: dict[str, Any] = {"output_dimension": width} if width else {}
        self._format = VectorFormat(host, dimension)

    def answer(self, texts: list[str], purpose: str, timeout_seconds: float) -> Answer:
        """One request; a second one, with vectors as digits, if the server turns out not to know base64."""
        return self._format.answer(lambda form: self._once(texts, purpose, timeout_seconds, form))

    def _once(self, texts: list[str], purpose: str, timeout_seconds: float, form: Form) -> Answer | None:
        """The answer to one request; None when the server does not take base64."""
        try:
            response = self._client.embed(
                texts=texts,
                model=self._settings.model,
                input_type=purpose,
                embedding_types=[form],
                truncate="NONE",
                request_options={"timeout": timeout_seconds, "max_retries": 0},
                **self._width,
            )
            return _answer(response, form, len(texts))
        except ApiError as error:
            if form == "base64" and is_about_form(error.status_code, error.body, "embedding_type"):
                return None
            failed = self._failure(error)
        except httpx.TimeoutException:
            failed = BusyServiceError(f"did not answer within {timeout_seconds:g} s")
        except httpx.TransportError as error:
            failed = UnreachedServiceError(f"cannot be reached, or broke off ({type(error).__name__})")
        except (ValueError, TypeError, AttributeError, ParsingError) as error:
            failed = BusyServiceError(f"answered what is no list of embeddings ({type(error).__name__})")
        raise failed  # outside of the handlers, so that it carries along no request, and no key

    def _failure(self, error: ApiError) -> EmbeddingError:
        setting = f"{OWN.variable}, or the Airflow connection {OWN.connection!r}"
        advice = {
            401: f"the key was refused. Correct {setting}",
            402: "the account has no credit left. Add some",
            403: f"the key may not use model {self._settings.model!r}. Allow it, or correct {setting}",
            404: f"it has no model {self._settings.model!r} here. Correct embedding.cohere.model or base_url",
        }
        answer = quotable(error.body.get("message") if isinstance(error.body, dict) else error.body, self._key)
        status = error.status_code or 500
        if status == 429 and "month" in answer:  # a trial key's calls of the month
            return DeniedServiceError(f"answered 429: {answer}")
        return failure(status, answer, error.headers or {}, advice)


def _answer(response: Any, form: Form, texts: int) -> Answer:
    """The vectors. Raises ValueError or its like when the response is garbled."""
    rows = response.embeddings.base64 if form == "base64" else response.embeddings.float_
    if len(rows) != texts:
        raise DeniedServiceError(f"answered {len(rows)} vectors to {texts} texts, not one for each: mend the server")
    billed = response.meta and response.meta.billed_units
    return Answer(decoded(rows), int(billed.input_tokens or 0) if billed else 0)
