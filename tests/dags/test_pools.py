"""Pools and alerts in a real Airflow: pools are there, a missing one is an error, failures and deadlines are told."""

import ast
import json
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from squadron.settings.registry import EMBEDDINGS
from tests.dags.local_airflow import ROOT, LocalAirflow
from tests.wire.openai_server import OpenAIServer

pytestmark = [pytest.mark.airflow, pytest.mark.slow, pytest.mark.xdist_group("airflow services")]

CALLBACKS = """
from pathlib import Path


def told(context):
    from run_alerts import text

    with Path(__file__).with_name("told.txt").open("a") as file:
        file.write(text(context) + "\\n")
"""
POLICY = """
def task_instance_mutation_hook(task_instance):
    task_instance.priority_weight = 77
"""
LATE = """
deadline_hours = 0.0001
schedule = ""
[source]
name = "sample"
limit = 10
[gate]
approval = true
"""
KEY = "sk-pools-0123456789abcdef"
CREATE = """
from airflow.models.pool import Pool
from embedding_pools import create_missing
print(json.dumps([create_missing(), {pool.pool: pool.slots for pool in Pool.get_pools()}]))
"""
POOLS = {"embedding_local", "embedding_openai", "embedding_cohere"}


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project's folder of its own, with a collection whose runs are always late: they wait for a person."""
    folder = tmp_path_factory.mktemp("home")
    shutil.copytree(ROOT / "config", folder / "config")
    (folder / "data").symlink_to(ROOT / "data")
    (folder / "config" / "late.toml").write_text(LATE)
    (folder / "own_alerts.py").write_text(CALLBACKS)
    (folder / "airflow_local_settings.py").write_text(POLICY)  # an operator's own policy, beside ours
    return folder


@pytest.fixture(scope="module")
def openai() -> Iterator[OpenAIServer]:
    with OpenAIServer(KEY) as server:
        yield server


@pytest.fixture(scope="module")
def environment(home: Path, openai: OpenAIServer) -> dict[str, str]:
    places = {
        "source": {"name": "sample", "limit": 40},
        "embedding": {"service": "hashing", "openai": {"base_url": f"{openai.url}/v1"}},
        "gate": {"max_drop": 1},  # of a server whose vectors are of words
        "store": {"lancedb": {"uri": str(home / "lancedb")}},
        "ingest": {"staging": str(home / "staging"), "shard_passages": 30},
        "cache": {"path": str(home / "cache")},
    }
    return {
        "SQUADRON_HOME": str(home),
        "PYTHONPATH": str(home),
        "OPENAI_API_KEY": KEY,
        "AIRFLOW_VAR_VECTOR_INGEST": json.dumps(places),
        "AIRFLOW_VAR_FAILURE_ALERT": "own_alerts.told",
    }


@pytest.fixture(scope="module")
def airflow(tmp_path_factory: pytest.TempPathFactory, environment: dict[str, str]) -> Iterator[LocalAirflow]:
    with LocalAirflow(tmp_path_factory.mktemp("airflow"), ("triggerer",), environment) as running:
        yield running


def test_a_run_passes_in_the_pool_that_was_created_at_the_start(airflow: LocalAirflow) -> None:
    pools = {pool["name"] for pool in airflow.get("pools")["pools"]}

    run, state = airflow.run_dag("vector_ingest", {})

    assert state == "success", airflow.task_logs()[-5000:]
    assert pools == {*POOLS, "default_pool"}
    used = {task["task_id"]: task["pool"] for task in tasks(airflow, run)}
    assert used == {**dict.fromkeys(used, "default_pool"), "ingest": "embedding_local"}


def test_each_shard_takes_the_pool_of_the_service_that_a_variable_names(airflow: LocalAirflow) -> None:
    airflow.set_variable("embedding_service", "openai")
    try:
        run, state = airflow.run_dag("vector_ingest", {})
    finally:
        airflow.set_variable("embedding_service", "hashing")

    assert state == "success", airflow.task_logs()[-5000:]
    shards = [(task["map_index"], task["pool"]) for task in tasks(airflow, run) if task["task_id"] == "ingest"]
    assert sorted(shards) == [(0, "embedding_openai"), (1, "embedding_openai")]
    assert {task["priority_weight"] for task in tasks(airflow, run)} == {77}
    assert {task["pool"] for task in tasks(airflow, run) if task["task_id"] != "ingest"} == {"default_pool"}


def test_a_missing_pool_fails_the_run_and_says_so_and_once_it_is_there_the_task_can_be_cleared(
    airflow: LocalAirflow, home: Path
) -> None:
    before = _in_airflow(airflow, "embedding_openai")

    run, state = airflow.run_dag("vector_ingest", {"embedding_service": "openai", "passages.template": "plain_v1"})

    assert before == {"embedding_openai": 4}
    assert state == "failed"
    states = {task["task_id"]: task["state"] for task in tasks(airflow, run)}
    done = dict.fromkeys(("resolve", "plan"), "success")
    assert states == {**dict.fromkeys(states, "upstream_failed"), **done, "ingest": "failed"}
    assert any(str(task["note"]).startswith("Airflow has no pool embedding_openai") for task in tasks(airflow, run))
    assert "Airflow has no pool embedding_openai" in airflow.log_of_part("scheduler")
    told = home / "told.txt"
    airflow.wait_for(lambda: told.exists() and f"vector_ingest: {run} has failed" in told.read_text(), "the alert")

    cleared = {"dry_run": False, "dag_run_id": run, "only_failed": True, "include_downstream": True}
    airflow.post("dags/vector_ingest/clearTaskInstances", cleared)  # too early
    assert airflow.end_of_run("vector_ingest", run) == "failed"

    assert _python(airflow, CREATE)[0] == ["embedding_openai"]
    airflow.post("dags/vector_ingest/clearTaskInstances", cleared)
    assert airflow.end_of_run("vector_ingest", run) == "success"
    used = {task["pool"] for task in tasks(airflow, run) if task["task_id"] == "ingest"}
    assert used == {"embedding_openai"}


def test_missing_pools_are_created_and_the_slots_of_the_others_are_left_alone(airflow: LocalAirflow) -> None:
    _in_airflow(airflow, "embedding_cohere")
    change = "Pool.create_or_update_pool('embedding_openai', 9, 'mine', False)"

    created, slots = _python(airflow, f"from airflow.models.pool import Pool\n{change}\n{CREATE}")

    assert "embedding_cohere" in created
    assert slots.keys() == {*POOLS, "default_pool"}
    assert slots["embedding_openai"] == 9


def test_a_run_that_is_not_done_by_its_deadline_is_told(airflow: LocalAirflow, home: Path) -> None:
    told = home / "told.txt"

    run = airflow.start_dag("vector_ingest_late", {})

    def is_told() -> bool:
        return told.exists() and f"vector_ingest_late: {run} is not done by its deadline" in told.read_text()

    airflow.wait_for(is_told, "the alert")


def test_every_pool_of_a_task_and_of_an_embedding_service_is_in_the_file_of_pools() -> None:
    from squadron.settings.credentials import CREDENTIALS

    calls = [node for path in (ROOT / "dags").glob("*.py") for node in ast.walk(ast.parse(path.read_text()))]
    named = [node.value for node in calls if isinstance(node, ast.keyword) and node.arg == "pool"]
    literal = {node.value for node in named if isinstance(node, ast.Constant)}
    of_services = {f"embedding_{name if name in CREDENTIALS else 'local'}" for name in EMBEDDINGS}

    pools = json.loads((ROOT / "config" / "pools.json").read_text())

    assert literal == {"embedding_local"} and len(named) == 2
    assert of_services == pools.keys() == POOLS
    assert all(pool["slots"] > 0 and pool["description"] and not pool["include_deferred"] for pool in pools.values())


def tasks(airflow: LocalAirflow, run: str) -> list[dict[str, Any]]:
    """The task instances of a run."""
    found: list[dict[str, Any]] = airflow.get(f"dags/vector_ingest/dagRuns/{run}/taskInstances")["task_instances"]
    return found


def _in_airflow(airflow: LocalAirflow, deleted: str) -> dict[str, int]:
    """Delete a pool, as an administrator may: its name and the slots that it had."""
    code = f"""
from airflow.models.pool import Pool
slots = Pool.get_pool({deleted!r}).slots
Pool.delete_pool({deleted!r})
print(json.dumps({{{deleted!r}: slots}}))
"""
    found: dict[str, int] = _python(airflow, code)
    return found


def _python(airflow: LocalAirflow, code: str) -> Any:
    """What code with access to Airflow's database prints last, read as JSON."""
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", f"import json\nimport airflow\n{code}"],
        env=airflow.environment,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return json.loads(done.stdout.strip().splitlines()[-1])
