"""Retrying: which of a service's failures may pass, which end the work, and which are the fault of a text.

EmbeddingError
├── BusyServiceError      may pass: rate limits, overload, time-outs
│   └── UnreachedServiceError   may pass: no connection, or a broken one
├── DeniedServiceError    will not pass by itself: the key, the model, the account, the settings
├── RefusedRequestError   the service refused a request for its texts
└── RefusedTextsError     the texts that were refused, each with its reason, and the vectors of all others
"""

import math
from collections.abc import Mapping
from email.utils import parsedate_to_datetime
from time import time

import numpy as np

from squadron.errors import EmbeddingError

REASON_CHARACTERS = 300

_TEXTS_AT_FAULT = {400, 413, 422, 498}
_MAY_PASS = {408, 409, 425, 429, 499}


class BusyServiceError(EmbeddingError):
    """The service failed for a reason that may pass."""

    def __init__(self, message: str, retry_after: float | None = None) -> None:
        super().__init__(message)
        self.retry_after = retry_after
        """Seconds that the service asked to wait, if it did."""


class UnreachedServiceError(BusyServiceError):
    """There was no connection to the service, or it broke."""


class DeniedServiceError(EmbeddingError):
    """The service refused for a reason that no waiting mends."""


class RefusedRequestError(EmbeddingError):
    """The service refused a request because of what it asks to embed."""


class RefusedTextsError(EmbeddingError):
    """The service refused some of the texts; the others have their vectors."""

    def __init__(self, service: str, reasons: dict[int, str], embeddings: np.ndarray, cached: int = 0) -> None:
        first = min(reasons)
        super().__init__(
            f"{service} refused {len(reasons)} of {len(embeddings)} texts, the first at position {first}: "
            f"{reasons[first]}. Mend them, or leave them out"
        )
        self.service = service
        self.reasons = reasons
        """Position of each refused text -> what the service said."""
        self.embeddings = embeddings
        """`float32 [texts, dimension]`; the rows of refused texts are NaN."""
        self.cached = cached
        """How many of these came from the cache."""


def failure(status: int, reason: str, headers: Mapping[str, str], advice: Mapping[int, str]) -> EmbeddingError:
    """The failure that an HTTP answer stands for. `advice` by status: what to do, instead of the service's words."""
    message = f"answered {status}: {reason}" if reason else f"answered {status}"
    if status in _TEXTS_AT_FAULT:
        return RefusedRequestError(message)
    if (status in _MAY_PASS or status >= 500 or status < 300) and headers.get("x-should-retry") != "false":
        return BusyServiceError(message, retry_after(headers))
    return DeniedServiceError(f"answered {status}: {advice[status]}" if status in advice else message)


def retry_after(headers: Mapping[str, str]) -> float | None:
    """Seconds that the answer asks to wait, given in milliseconds, in seconds, or as a date; None if it does not."""
    for name, unit in (("retry-after-ms", 0.001), ("retry-after", 1.0)):
        value = headers.get(name, "")
        try:
            seconds = float(value) * unit
        except ValueError:
            continue
        if math.isfinite(seconds):
            return max(0.0, seconds)
    try:
        return max(0.0, parsedate_to_datetime(headers["retry-after"]).timestamp() - time())
    except (KeyError, ValueError, OverflowError):
        return None


def quotable(reason: object, secret: str) -> str:
    """What a service said, fit for a message: on one line, not too long, and without the key."""
    text = " ".join(str(reason or "").split()).removesuffix(".")
    if secret:
        text = text.replace(secret, "[key]")
    return text if len(text) <= REASON_CHARACTERS else text[:REASON_CHARACTERS] + "…"
