"""An OpenAI server of ours, on loopback: the embeddings endpoint, with the service's limits and its errors.

    python -m tests.wire.openai_server --port 5081
    OPENAI_API_KEY=any squadron ingest --set embedding.service=openai \
        --set embedding.openai.base_url=http://127.0.0.1:5081/v1

It answers under `/v1/embeddings`, and under `/openai/deployments/NAME/embeddings` as Azure does.
"""

import math
import re
from typing import Any

from squadron.embeddings.tokenization import cl100k, token_counts
from tests.wire.embedding_command import main
from tests.wire.embedding_service import EmbeddingServer, Refusal, encoded

MODELS = {"text-embedding-3-small": 1536, "text-embedding-3-large": 3072, "text-embedding-ada-002": 1536}
MAX_TEXTS, MAX_TEXT_TOKENS, MAX_REQUEST_TOKENS = 2048, 8192, 300_000
LIMITS = ("requests", "tokens")


class OpenAIServer(EmbeddingServer):
    """OpenAI, or with other `models` (name -> dimension) one that speaks as it does."""

    models = MODELS
    shortens = True
    """Whether models other than ada-002 take `dimensions`."""
    most_texts = MAX_TEXTS
    counts_tokens = True
    """Whether long texts are counted and refused; without it, a token is a word."""

    def texts_of(self, body: dict[str, Any]) -> list[str]:
        texts = body.get("input")
        return [texts] if isinstance(texts, str) else texts or []

    def authorized(self, headers: dict[str, str]) -> None:
        given = headers.get("api-key") or headers.get("authorization", "").removeprefix("Bearer ")
        if self.key not in (None, given):
            # The service shows the ends of the key; some servers that speak as it does show all of it.
            raise _refusal(401, f"Incorrect API key provided: {given}.", code="invalid_api_key")

    def answer(self, path: str, body: dict[str, Any]) -> tuple[dict[str, Any], dict[str, str]]:
        if not re.fullmatch(r"/v1/embeddings|/openai/deployments/[^/]+/embeddings", path):
            raise _refusal(404, f"Invalid URL (POST {path})")
        texts, model, form = self.texts_of(body), body.get("model"), body.get("encoding_format", "float")
        if model not in self.models:
            message = f"The model `{model}` does not exist or you do not have access to it."
            raise _refusal(404, message, code="model_not_found")
        if form == "base64" and not self.knows_base64:
            raise _refusal(400, "base64 encoding is not currently supported", param="encoding_format")
        dimension = self._dimension(model, body.get("dimensions"))
        counts = self._checked(texts)
        headers = self._metered(model, sum(counts))
        rows = encoded(self.vectors(texts, dimension, salt=model), form)
        self.note(texts, sum(counts))
        data = [{"object": "embedding", "index": index, "embedding": row} for index, row in enumerate(rows)]
        usage = {"prompt_tokens": sum(counts), "total_tokens": sum(counts)}
        # Nothing promises the order; the index says it.
        return {"object": "list", "data": data[::-1], "model": model, "usage": usage}, headers

    def _dimension(self, model: str, wanted: int | None) -> int:
        full = self.models[model]
        if wanted is None:
            return full
        if not self.shortens or model == "text-embedding-ada-002":
            raise _refusal(400, "This model does not support specifying dimensions.", param="dimensions")
        if not 1 <= wanted <= full:
            raise _refusal(400, f"Invalid value for 'dimensions' = {wanted}.", param="dimensions")
        return wanted

    def _checked(self, texts: list[str]) -> list[int]:
        """The tokens of each text."""
        if len(texts) > self.most_texts:
            raise _refusal(
                400,
                f"Invalid 'input': array too long. Expected an array with maximum length {self.most_texts}, but got an "
                f"array with length {len(texts)} instead.",
                param="input",
                code="array_above_max_length",
            )
        if not texts or not all(isinstance(text, str) and text for text in texts) or self.refused & set(texts):
            raise _refusal(400, "'$.input' is invalid. Please check the API reference.", param="input")
        counts = token_counts(cl100k(), texts) if self.counts_tokens else [len(text.split()) for text in texts]
        if (most := max(counts)) > MAX_TEXT_TOKENS:
            raise _refusal(
                400,
                f"This model's maximum context length is {MAX_TEXT_TOKENS} tokens, however you requested {most} "
                f"tokens ({most} in your prompt; 0 for the completion). Please reduce your prompt; or completion "
                "length.",
            )
        if sum(counts) > MAX_REQUEST_TOKENS:
            kind = "max_tokens_per_request"
            message = f"Requested {sum(counts)} tokens, max {MAX_REQUEST_TOKENS} tokens per request"
            raise _refusal(400, message, code=kind, kind=kind)
        return counts

    def _metered(self, model: str, tokens: int) -> dict[str, str]:
        for name, amount in (("requests", 1), ("tokens", tokens)):
            budget = self.budgets[name]
            if seconds := budget.take(amount):
                raise _refusal(
                    429,
                    f"Rate limit reached for {model} in organization org-test on {name} per min: Limit "
                    f"{budget.per_minute}, Requested {amount}. Please try again in {seconds:.3f}s.",
                    code="rate_limit_exceeded",
                    kind=name,
                    headers={
                        "retry-after": str(math.ceil(seconds)),
                        "retry-after-ms": str(math.ceil(seconds * 1000)),
                        **self._headers(),
                    },
                )
        return self._headers()

    def _headers(self) -> dict[str, str]:
        limited = [(name, budget) for name, budget in self.budgets.items() if budget.per_minute]
        return {f"x-ratelimit-limit-{name}": str(budget.per_minute) for name, budget in limited} | {
            f"x-ratelimit-remaining-{name}": str(budget.left) for name, budget in limited
        }


def _refusal(
    status: int,
    message: str,
    param: str | None = None,
    code: str | None = None,
    kind: str = "invalid_request_error",
    headers: dict[str, str] | None = None,
) -> Refusal:
    return Refusal(status, {"error": {"message": message, "type": kind, "param": param, "code": code}}, headers)


if __name__ == "__main__":
    main(OpenAIServer, "openai", "/v1", limits=LIMITS)
