"""A Cohere server of ours, on loopback: `/v2/embed`, with the service's limits and its errors.

    python -m tests.wire.cohere_server --port 5082
    CO_API_KEY=any squadron ingest --set embedding.service=cohere \
        --set embedding.cohere.base_url=http://127.0.0.1:5082
"""

import math
from typing import Any
from uuid import uuid4

from squadron.embeddings.tokenization import token_counts, wordpiece
from tests.wire.embedding_command import main
from tests.wire.embedding_service import EmbeddingServer, Refusal, encoded

MODELS = {
    "embed-v4.0": (1536, 128_000),
    "embed-english-v3.0": (1024, 512),
    "embed-english-light-v3.0": (384, 512),
    "embed-multilingual-v3.0": (1024, 512),
    "embed-multilingual-light-v3.0": (384, 512),
}
V4_DIMENSIONS = (256, 512, 1024, 1536)
MAX_TEXTS = 96
INPUT_TYPES = ("search_document", "search_query", "classification", "clustering")


class CohereServer(EmbeddingServer):
    """Cohere's embeddings. Vectors are not of unit length, and those of questions are others than of passages."""

    def texts_of(self, body: dict[str, Any]) -> list[str]:
        return body.get("texts") or []

    def authorized(self, headers: dict[str, str]) -> None:
        given = headers.get("authorization", "").removeprefix("Bearer ")
        if self.key not in (None, given):
            raise _refusal(401, f"invalid api token: {given}")

    def answer(self, path: str, body: dict[str, Any]) -> tuple[dict[str, Any], dict[str, str]]:
        if path != "/v2/embed":
            raise _refusal(404, "404 page not found")
        texts, model, (form,) = self.texts_of(body), body.get("model"), body["embedding_types"]
        if model not in MODELS:
            raise _refusal(404, f"model '{model}' not found, make sure the correct model ID was used")
        if body.get("input_type") not in INPUT_TYPES:
            raise _refusal(400, "invalid request: valid input_type must be provided with the provided model")
        if form not in (("float", "base64") if self.knows_base64 else ("float",)):
            raise _refusal(400, f"invalid request: embedding_types: {form} is not supported")
        dimension = self._dimension(model, body.get("output_dimension"))
        counts = self._checked(texts, MODELS[model][1], body.get("truncate", "END"))
        headers = self._metered(len(texts), sum(counts))
        # Cut, a text is its first tokens; here, as many of its words.
        kept = [" ".join(text.split()[: MODELS[model][1]]) or text for text in texts]
        vectors = self.vectors(kept, dimension, salt=model, scale=2.5)
        vectors[:, -1] += 0.25 * INPUT_TYPES.index(body["input_type"])
        self.note(texts, sum(counts))
        billed = {"api_version": {"version": "2"}, "billed_units": {"input_tokens": sum(counts)}}
        return {
            "id": str(uuid4()),
            "embeddings": {form: encoded(vectors, form)},
            "texts": texts,
            "response_type": "embeddings_by_type",
            "meta": billed,
        }, headers

    def _dimension(self, model: str, wanted: int | None) -> int:
        if wanted is None:
            return MODELS[model][0]
        if model != "embed-v4.0" or wanted not in V4_DIMENSIONS:
            raise _refusal(400, f"invalid request: output_dimension {wanted} is not supported by model {model}")
        return wanted

    def _checked(self, texts: list[str], max_tokens: int, truncate: str) -> list[int]:
        """The tokens of each text."""
        if len(texts) > MAX_TEXTS:
            raise _refusal(
                400, f"invalid request: total number of texts must be at most {MAX_TEXTS} - received {len(texts)}"
            )
        if not texts or not all(text.strip() for text in texts) or self.refused & set(texts):
            raise _refusal(400, "invalid request: texts must be at least 1 token long.")
        counts = token_counts(wordpiece(), texts)
        if truncate == "NONE" and max(counts) > max_tokens:
            raise _refusal(400, f"too many tokens: total number of tokens cannot exceed {max_tokens}")
        return [min(count, max_tokens) for count in counts]

    def _metered(self, texts: int, tokens: int) -> dict[str, str]:
        for name, amount in (("requests", 1), ("texts", texts), ("tokens", tokens)):
            if seconds := self.budgets[name].take(amount):
                raise _refusal(
                    429,
                    f"You are past the per minute {name} limit, please wait and try again later.",
                    {"retry-after": str(math.ceil(seconds))},
                )
        return {}


def _refusal(status: int, message: str, headers: dict[str, str] | None = None) -> Refusal:
    return Refusal(status, {"id": str(uuid4()), "message": message}, headers)


if __name__ == "__main__":
    main(CohereServer, "cohere", limits=("requests", "texts", "tokens"))
