"""The DAG in a real Airflow: scheduler, dag-processor and api-server, triggered over REST by a non-admin user."""

import json
from pathlib import Path
from typing import Any

import pytest

from tests.dags.local_airflow import LocalAirflow

pytestmark = [pytest.mark.airflow, pytest.mark.xdist_group("airflow")]


@pytest.fixture(scope="module")
def places(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    folder = tmp_path_factory.mktemp("places")
    return {
        "store.lancedb.uri": str(folder / "lancedb"),
        "ingest.staging": str(folder / "staging"),
        "cache.path": str(folder / "cache"),
    }


def test_a_run_over_rest_honours_variables_and_lets_its_conf_override_them(
    airflow: LocalAirflow, places: dict[str, str]
) -> None:
    airflow.set_variable("embedding_service", "hashing")
    airflow.set_variable("vector_ingest", json.dumps({**places, "source": {"name": "sample", "limit": 50}}))

    run, state = airflow.run_dag("vector_ingest", {"source.limit": 30, "ingest.shard_passages": 20})

    assert state == "success"
    report = airflow.report("vector_ingest", run)
    assert report["counts"]["documents"] == 30  # the conf's, not the Variable's 50
    assert report["vector_space"]["service"] == "hashing"  # the Variable's, not config/squad.toml's
    assert report["live"] == report["generation"]
    assert len(_instances_of_ingest(airflow, run)) == 2  # a mapped task for each shard
    log = airflow.log_of("vector_ingest", run, "resolve")
    for line in (
        "source.limit = 30  (run params)",
        "(Variable embedding_service)",
        "(Variable vector_ingest)",
        "(config/squad.toml)",
        "gate.max_drop = 0.05  (default)",
    ):
        assert line in log


@pytest.mark.slow
def test_shards_run_as_mapped_tasks_that_bear_their_names_and_a_second_run_skips_them(
    airflow: LocalAirflow, places: dict[str, str]
) -> None:
    conf = {**places, "collection": "sharded", "source.name": "sample", "embedding_service": "hashing"}

    first, state = airflow.run_dag("vector_ingest", {**conf, "ingest.shard_passages": 50})
    again, state_again = airflow.run_dag("vector_ingest", conf)

    assert (state, state_again) == ("success", "success")
    shards = _instances_of_ingest(airflow, first)
    names = ["shard 1: 50 passages", "shard 2: 50 passages", "shard 3: 7 passages"]
    assert sorted(task["rendered_map_index"] for task in shards) == names
    counts = airflow.report("vector_ingest", first)["counts"]
    assert counts["embedded"] + counts["cached"] == counts["written"] == counts["passages"] == 107
    assert {task["state"] for task in _instances_of_ingest(airflow, again)} == {"skipped"}
    counts = airflow.report("vector_ingest", again)["counts"]
    assert (counts["embedded"], counts["written"], counts["deleted"]) == (0, 0, 0)
    assert counts["unchanged"] == counts["passages"] == 107


def _instances_of_ingest(airflow: LocalAirflow, run: str) -> list[dict[str, Any]]:
    tasks = airflow.get(f"dags/vector_ingest/dagRuns/{run}/taskInstances")["task_instances"]
    return [task for task in tasks if task["task_id"] == "ingest"]


@pytest.mark.slow
def test_a_run_that_wants_approval_waits_for_it_and_tells_of_the_change(
    airflow: LocalAirflow, places: dict[str, str]
) -> None:
    conf = {**places, "collection": "approved", "source.name": "sample", "embedding_service": "hashing"}
    run = airflow.start_dag("vector_ingest", {**conf, "gate.approval": True})
    airflow.task_in_state("vector_ingest", run, "approve", "awaiting_input")
    path = f"dags/vector_ingest/dagRuns/{run}/taskInstances"
    asked = airflow.get(f"{path}/approve/-1/hitlDetails")

    # An answer that comes before the scheduler knows that the worker is free is taken for a task that was lost.
    heard = f"state success for task instance TaskInstanceKey(dag_id='vector_ingest', task_id='approve', run_id='{run}'"
    airflow.wait_for(lambda: heard in airflow.log_of_part("scheduler"), "the scheduler to know")
    airflow.patch(f"{path}/approve/-1/hitlDetails", {"chosen_options": ["Approve"]})
    state = airflow.end_of_run("vector_ingest", run)

    assert state == "success"
    report = airflow.report("vector_ingest", run)
    assert asked["subject"] == f"Make {report['generation']} live?"
    assert "recall_at_10" in asked["body"]
    (event,) = [event for event in airflow.get("assets/events")["asset_events"] if event["extra"].get("run_id") == run]
    assert event["extra"]["generation"] == report["live"]
    assert event["extra"]["rows"] == report["counts"]["passages"]
    assert event["extra"]["metrics"] == report["metrics"]


@pytest.mark.slow
def test_a_change_in_place_that_a_person_rejects_is_taken_back(airflow: LocalAirflow, places: dict[str, str]) -> None:
    conf = {**places, "collection": "rejected", "source.name": "sample", "embedding_service": "hashing"}
    _, state = airflow.run_dag("vector_ingest", {**conf, "source.limit": 100})
    assert state == "success"
    run = airflow.start_dag("vector_ingest", {**conf, "gate.approval": True})
    airflow.task_in_state("vector_ingest", run, "approve", "awaiting_input")
    path = f"dags/vector_ingest/dagRuns/{run}/taskInstances"
    heard = f"state success for task instance TaskInstanceKey(dag_id='vector_ingest', task_id='approve', run_id='{run}'"
    airflow.wait_for(lambda: heard in airflow.log_of_part("scheduler"), "the scheduler to know")

    airflow.patch(f"{path}/approve/-1/hitlDetails", {"chosen_options": ["Reject"]})

    assert airflow.end_of_run("vector_ingest", run) == "failed"
    assert "rows from before it was changed" in airflow.log_of("vector_ingest", run, "approve")
    run, state = airflow.run_dag("vector_ingest", {**conf, "source.limit": 100})
    assert state == "success"
    counts = airflow.report("vector_ingest", run)["counts"]
    assert (counts["written"], counts["deleted"]) == (0, 0)


def test_an_unknown_setting_fails_the_run_at_once_and_names_the_nearest(
    airflow: LocalAirflow, places: dict[str, str]
) -> None:
    run, state = airflow.run_dag("vector_ingest", {**places, "source.limt": 5})

    assert state == "failed"
    tasks = airflow.get(f"dags/vector_ingest/dagRuns/{run}/taskInstances")["task_instances"]
    (resolve,) = [task for task in tasks if task["task_id"] == "resolve"]
    assert (resolve["state"], resolve["try_number"]) == ("failed", 1)
    assert "did you mean 'source.limit'?" in airflow.log_of("vector_ingest", run, "resolve")


def test_a_failed_run_leaves_no_generation_and_no_staging(airflow: LocalAirflow, tmp_path: Path) -> None:
    places = {
        "store.lancedb.uri": str(tmp_path / "lancedb"),
        "ingest.staging": str(tmp_path / "staging"),
        "cache.path": str(tmp_path / "cache"),
    }
    broken = tmp_path / "broken.jsonl"
    broken.write_bytes(b'{"context": "fine"}\n{"context": "\xff"}\n')

    run, state = airflow.run_dag(
        "vector_ingest", {**places, "source.name": "files", "source.path": str(broken), "embedding_service": "hashing"}
    )

    assert state == "failed"
    assert "line 2" in airflow.log_of("vector_ingest", run, "plan")
    # What could not be read is listed for a person, and where documents were cut is remembered; nothing else is left.
    left = [path for path in tmp_path.rglob("*") if path.is_file() and path != broken]
    assert [path for path in left if "_quarantine" in path.parts]
    assert not [path for path in left if "_quarantine" not in path.parts and path.suffix != ".cuts"]
