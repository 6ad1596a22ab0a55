"""Vector format: base64, a third of the size that vectors have as digits, where the server knows how."""

import base64
import logging
from collections.abc import Callable
from typing import Any, Literal

import numpy as np

from squadron.embeddings.remote.endpoints import Answer

Form = Literal["base64", "float"]

log = logging.getLogger(__name__)


class VectorFormat:
    """What one endpoint is asked for: base64, until it turns out not to know it."""

    def __init__(self, host: str, dimension: int) -> None:
        self._host = host
        self._dimension = dimension
        self._form: Form = "base64"

    def answer(self, ask: Callable[[Form], Answer | None]) -> Answer:
        """What one request is answered; a second one, with vectors as digits, if the server does not know base64.

        `ask` sends a request; it returns None when the server does not take base64.
        """
        asked_for = self._form
        answer = ask(asked_for)
        if asked_for == "base64" and (answer is None or answer.vectors.shape[1] != self._dimension):
            log.info("%s does not give vectors as base64: they come as digits", self._host)
            self._form = "float"
            answer = ask("float")
        assert answer is not None  # noqa: S101 - only base64 may be what a server does not take
        return answer


def decoded(rows: list[Any]) -> np.ndarray:
    """`float32 [rows, width]`. Raises ValueError or TypeError when a row is garbled."""
    vectors = [np.frombuffer(base64.b64decode(row), "<f4") if isinstance(row, str) else row for row in rows]
    return np.array(vectors, np.float32)


def is_about_form(status: int | None, body: object, parameter: str) -> bool:
    """Whether a request was refused for the form that its parameter asked for."""
    answer = str(body).lower()
    return status in (400, 422, 500) and (parameter in answer or "base64" in answer)
