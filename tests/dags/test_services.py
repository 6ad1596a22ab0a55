"""Swapping the embedding service by an Airflow Variable, in a real Airflow; and a service that asks to wait."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from squadron.generations.search import search
from squadron.settings.layers import Layer, resolve
from tests.dags.local_airflow import LocalAirflow
from tests.wire.cohere_server import CohereServer
from tests.wire.openai_server import OpenAIServer
from tests.wire.telemetry_collector import TelemetryCollector

pytest.importorskip("statsd")
pytestmark = [pytest.mark.airflow, pytest.mark.xdist_group("airflow")]

OPENAI_KEY, COHERE_KEY = "sk-services-0123456789abcdef", "co-services-0123456789abcdef"
POOLS = {
    "hashing": "embedding_local",
    "sentence_transformers": "embedding_local",
    "openai": "embedding_openai",
    "cohere": "embedding_cohere",
}
ASKED_SECONDS = 7


@pytest.fixture(scope="module")
def openai() -> Iterator[OpenAIServer]:
    with OpenAIServer(OPENAI_KEY) as server:
        yield server


@pytest.fixture(scope="module")
def cohere() -> Iterator[CohereServer]:
    with CohereServer(COHERE_KEY) as server:
        yield server


@pytest.fixture
def settings(airflow: LocalAirflow, openai: OpenAIServer, cohere: CohereServer, tmp_path: Path) -> dict[str, Any]:
    """What the Variable `vector_ingest` says: the services' addresses, and a folder of the test's own."""
    openai.faults.clear()
    values: dict[str, Any] = {
        "source": {"name": "sample", "limit": 40},
        "embedding": {
            "openai": {"base_url": f"{openai.url}/v1", "deadline_seconds": 5},
            "cohere": {"base_url": cohere.url},
        },
        "store": {"lancedb": {"uri": str(tmp_path / "lancedb")}},
        "ingest": {"staging": str(tmp_path / "staging")},
        "cache": {"path": str(tmp_path / "cache")},
        "gate": {"max_drop": 1},  # of servers whose vectors are of words
        "retention": {"generations": 4},
    }
    airflow.set_variable("vector_ingest", json.dumps(values))
    airflow.set_connection("openai_default", "generic", OPENAI_KEY)
    airflow.set_connection("cohere_default", "generic", COHERE_KEY)
    return values


@pytest.mark.slow
def test_a_variable_moves_the_next_run_to_another_service_whose_key_shows_nowhere(
    airflow: LocalAirflow,
    settings: dict[str, Any],
    openai: OpenAIServer,
    cohere: CohereServer,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", OPENAI_KEY)
    monkeypatch.setenv("CO_API_KEY", COHERE_KEY)
    reports, found = {}, {}

    for service, pool in POOLS.items():
        airflow.set_variable("embedding_service", service)
        run, state = airflow.run_dag("vector_ingest", {})
        assert state == "success", airflow.task_logs()[-5000:]
        reports[service] = airflow.report("vector_ingest", run)
        tasks = airflow.get(f"dags/vector_ingest/dagRuns/{run}/taskInstances")["task_instances"]
        assert {task["pool"] for task in tasks if task["task_id"] == "ingest"} == {pool}
        resolved = resolve([Layer("Variables", settings | {"embedding_service": service}, tmp_path)]).settings
        found[service] = search(resolved, reports[service]["example_question"], top_k=3)

    assert len({report["generation"] for report in reports.values()}) == len(POOLS)
    for service, report in reports.items():
        assert report["vector_space"]["service"] == service
        assert report["live"] == report["generation"]
        assert report["promoted"]
        assert report["counts"]["embedded"] == report["counts"]["written"] == report["counts"]["passages"] > 0
        assert len(found[service]) == 3
    assert reports["cohere"]["previous"] == reports["openai"]["generation"]
    assert openai.embedded and cohere.embedded  # they want the keys
    shown = {name: "\n".join(rows) for name, rows in airflow.database().items() if name != "connection"}
    shown["logs"] = airflow.task_logs()
    assert "xcom" in shown
    assert not [(name, key) for name, text in shown.items() for key in (OPENAI_KEY, COHERE_KEY) if key in text]


@pytest.mark.slow
def test_a_task_is_tried_again_when_the_service_asked_and_does_not_wait_for_it_itself(
    airflow: LocalAirflow, settings: dict[str, Any], openai: OpenAIServer, collector: TelemetryCollector
) -> None:
    retries = collector.metrics["airflow.squadron.squad.plan.retries"]
    before = len(retries)
    openai.faults.add("POST", status=429, headers={"retry-after": str(ASKED_SECONDS)}, body="{}", times=1)

    run = airflow.start_dag("vector_ingest", {"embedding_service": "openai"})
    airflow.task_in_state("vector_ingest", run, "plan", "up_for_retry")  # it tries the model before anything is sent

    assert "BusyServiceError" in airflow.log_of("vector_ingest", run, "plan")
    columns = "retry_delay_override, retry_reason"
    sql = f"SELECT {columns} FROM task_instance_history WHERE run_id = ? AND task_id = 'plan' AND try_number = 1"
    ((seconds, reason),) = airflow.query(sql, run)
    assert ASKED_SECONDS - 1 < seconds < ASKED_SECONDS * 1.1 + 0.1  # a default would be 30 s and more
    assert reason.startswith("the service asked to wait")
    assert airflow.end_of_run("vector_ingest", run) == "success"
    tries = airflow.get(f"dags/vector_ingest/dagRuns/{run}/taskInstances/plan/tries")["task_instances"]
    assert len(tries) == 2
    collector.wait_for(lambda: len(retries) > before, "the number of retries")
    assert retries[before:] == [("c", 1)]


@pytest.mark.slow
def test_a_wrong_key_fails_the_run_at_once(
    airflow: LocalAirflow, settings: dict[str, Any], cohere: CohereServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cohere, "key", "another")

    run, state = airflow.run_dag("vector_ingest", {"embedding_service": "cohere"})

    assert state == "failed"
    tasks = airflow.get(f"dags/vector_ingest/dagRuns/{run}/taskInstances")["task_instances"]
    ((task, tries),) = [(each["task_id"], each["try_number"]) for each in tasks if each["state"] == "failed"]
    assert tries == 1
    assert "CO_API_KEY" in airflow.log_of("vector_ingest", run, task)
