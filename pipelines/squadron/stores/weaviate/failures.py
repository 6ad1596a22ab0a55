"""Weaviate's failures: what kind each one is, in REST or in gRPC, and whether it may pass."""

from collections.abc import Iterator

import grpc  # type: ignore[import-untyped]
import httpx
from weaviate.exceptions import UnexpectedStatusCodeError

from squadron.errors import SettingsError
from squadron.settings.addresses import without_user
from squadron.settings.credentials import CREDENTIALS
from squadron.settings.store_sections import WeaviateSettings

KEY = CREDENTIALS["weaviate"]
UNAUTHENTICATED = {401, "UNAUTHENTICATED"}
PASSING = {429, 502, 503, 504, "UNAVAILABLE", "DEADLINE_EXCEEDED", "RESOURCE_EXHAUSTED", "ABORTED"}
PASSING |= {"CANCELLED"}  # by the server, which goes: nothing here cancels a call


def failure(error: BaseException) -> tuple[int | str, str]:
    """What kind of failure it was, as a status code or a name, and the reason in one line."""
    chain = list(chained(error))
    code: int | str = type(error).__name__
    reason = str(chain[-1]) or type(chain[-1]).__name__
    if call := next((link for link in chain if isinstance(link, grpc.Call)), None):
        code, reason = call.code().name, call.details() or ""
    elif isinstance(error, UnexpectedStatusCodeError):
        code, reason = error.status_code, str(error)
    elif any(isinstance(link, httpx.TransportError) for link in chain):
        code = "UNAVAILABLE"
    return code, " ".join(reason.split())[:500]


def may_pass(code: int | str, reason: str) -> bool:
    """Whether another attempt may do better than one that failed so."""
    return code in PASSING and "larger than max" not in reason


def chained(error: BaseException | None) -> Iterator[BaseException]:
    """The error, the one that it was raised from, and so on."""
    while error:
        yield error
        error = error.__cause__ or error.__context__


def refused_key(settings: WeaviateSettings, key_given: bool) -> SettingsError:
    """The error for a key that is missing or wrong: trying again does not help."""
    refused = "refused the key in" if key_given else "wants a key, and there is none in"
    return SettingsError(
        f"Weaviate at {without_user(settings.uri)} {refused} {KEY.variable}: set it, or the Airflow connection "
        f"{KEY.connection}, to a key that the server accepts"
    )
