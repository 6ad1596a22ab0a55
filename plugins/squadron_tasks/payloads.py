"""Payloads: what one task hands to the next, as the JSON objects that XCom carries."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, TypeVar

from pydantic import JsonValue, TypeAdapter

if TYPE_CHECKING:
    from collections.abc import Sequence

    from _typeshed import DataclassInstance

    from squadron.runs.results import Ingested, Plan

JsonObject = dict[str, JsonValue]
Outcome = TypeVar("Outcome")


def payload_of(outcome: DataclassInstance) -> JsonObject:
    """The fields of an outcome of `squadron.runs.results`."""
    return asdict(outcome)


def read_payload(kind: type[Outcome], payload: object) -> Outcome:
    """The outcome that `payload_of` wrote. Raises pydantic's ValidationError when a field is missing or mistyped."""
    return TypeAdapter(kind).validate_python(payload)


def read_plan(payload: JsonObject) -> Plan:
    """The plan of the run, without its shards, which are the tasks that Airflow maps over."""
    from squadron.runs.results import Plan

    return read_payload(Plan, payload)


def sum_of_shards(payloads: Sequence[JsonObject] | None) -> Ingested:
    """What became of all shards together. Airflow gives None when there were none."""
    from squadron.runs.results import Ingested

    shards = (payloads or [])[:]  # sliced, Airflow reads them all in one request
    return sum((read_payload(Ingested, shard) for shard in shards), Ingested())
