"""Payloads: what tasks hand to each other by XCom comes back as it was, and anything else is refused."""

import json
from collections.abc import Iterator
from types import ModuleType

import pytest
from pydantic import ValidationError

from squadron.runs.results import Evaluation, Finished, Ingested
from squadron.staging.shards import Shard
from tests.dags.local_airflow import ROOT

INGESTED = Ingested(embedded=3, written=3, tokens=12, endpoints={"host": {"answered": 1, "failed": 0}})


@pytest.fixture
def payloads() -> Iterator[ModuleType]:
    """The module of plugins/, which Airflow puts on the path."""
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(ROOT / "plugins")
        from squadron_tasks import payloads

        yield payloads


@pytest.mark.parametrize(
    "outcome",
    [
        Shard("shard-00000.parquet", 0, 3, 12),
        INGESTED,
        Finished(rows=3, deleted=0, index="exact", seconds=0.5),
        Evaluation({"recall_at_10": 0.9}, {}, [], 3, "questions", False, 0.5),
    ],
)
def test_an_outcome_comes_back_from_json_as_it_was(payloads: ModuleType, outcome: object) -> None:
    payload = json.loads(json.dumps(payloads.payload_of(outcome)))

    assert payloads.read_payload(type(outcome), payload) == outcome


@pytest.mark.parametrize("change", [{"rows": None}, {"rows": "many"}])
def test_a_payload_with_a_mistyped_field_is_refused_by_the_name_of_the_field(
    payloads: ModuleType, change: dict[str, object]
) -> None:
    payload = payloads.payload_of(Finished(rows=3, deleted=0, index="exact", seconds=0.5)) | change

    with pytest.raises(ValidationError, match="rows"):
        payloads.read_payload(Finished, payload)


def test_a_payload_without_a_field_is_refused_by_the_name_of_the_field(payloads: ModuleType) -> None:
    with pytest.raises(ValidationError, match="index"):
        payloads.read_payload(Finished, {"rows": 3, "deleted": 0, "seconds": 0.5})


def test_shards_are_summed_and_a_run_without_shards_has_done_nothing(payloads: ModuleType) -> None:
    payload = payloads.payload_of(INGESTED)

    assert payloads.sum_of_shards([payload, payload]) == INGESTED + INGESTED
    assert payloads.sum_of_shards(None) == payloads.sum_of_shards([]) == Ingested()
