"""Payloads: what one task hands to the next, as the JSON objects that XCom carries."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, TypeVar

from pydantic import JsonValue, TypeAdapter

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

JsonObject = dict[str, JsonValue]
Outcome = TypeVar("Outcome")


def payload_of(outcome: DataclassInstance) -> JsonObject:
    """The fields of an outcome of `squadron.runs.results`."""
    return asdict(outcome)


def read_payload(kind: type[Outcome], payload: object) -> Outcome:
    """The outcome that `payload_of` wrote. Raises pydantic's ValidationError when a field is missing or mistyped."""
    return TypeAdapter(kind).validate_python(payload)
