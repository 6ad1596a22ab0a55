"""Many machines: the compose file's parts with two Celery workers on Postgres and Redis, and one that is switched off.

What no test here shows, for want of a Docker engine: the image's build, its entrypoint, and the volumes of containers.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from squadron.generations import model_canary as canary
from squadron.settings.layers import Layer, resolve
from tests.dags import celery_airflow
from tests.dags.celery_airflow import OTHERS, WORKERS, Backends, CeleryAirflow
from tests.whole_runs import numbered, requests_of_few, stored_rows
from tests.wire.openai_server import OpenAIServer

LACK = celery_airflow.missing()
pytestmark = [
    pytest.mark.airflow,
    pytest.mark.slow,
    pytest.mark.xdist_group("airflow services"),
    pytest.mark.skipif(LACK is not None, reason=str(LACK)),
]

KEY = "sk-celery-0123456789abcdef"
TEXTS_PER_REQUEST = 5
SHARDS, SHARD_PASSAGES = 4, 20
# A worker that is gone is noticed after half a minute, not five.
NOTICED_SOON = {
    "AIRFLOW__SCHEDULER__TASK_INSTANCE_HEARTBEAT_SEC": "2",
    "AIRFLOW__SCHEDULER__TASK_INSTANCE_HEARTBEAT_TIMEOUT": "30",
    "AIRFLOW__SCHEDULER__TASK_INSTANCE_HEARTBEAT_TIMEOUT_DETECTION_INTERVAL": "5",
}


@pytest.fixture(scope="module")
def backends() -> Iterator[Backends]:
    with celery_airflow.backends() as running:
        yield running


@pytest.fixture(scope="module")
def airflow(backends: Backends, tmp_path_factory: pytest.TempPathFactory) -> Iterator[CeleryAirflow]:
    home = tmp_path_factory.mktemp("airflow") / "home"
    with CeleryAirflow(home, backends, more=NOTICED_SOON | {"OPENAI_API_KEY": KEY}) as running:
        for worker in WORKERS:
            running.wait_for_worker(worker)
        yield running


@pytest.fixture
def server() -> Iterator[OpenAIServer]:
    with OpenAIServer(KEY) as running:
        yield running


def workers_at(airflow: CeleryAirflow, run: str, state: str) -> dict[str, dict[str, Any]]:
    """Worker -> an instance of `ingest` that it has in a state."""
    return {each["hostname"]: each for each in airflow.instances(run, "ingest") if each["state"] == state}


def troubles(airflow: CeleryAirflow) -> str:
    """What tasks have logged as errors: why a run is red."""
    return "\n".join(line for line in airflow.task_logs().splitlines() if '"level":"error"' in line)[:5000]


@pytest.mark.parametrize("part", [*OTHERS, *WORKERS])
def test_the_compose_files_health_check_finds_each_part_well(airflow: CeleryAirflow, part: str) -> None:
    done = airflow.check(part)

    assert done.returncode == 0, done.stdout + done.stderr


def test_two_workers_share_the_shards_of_a_run(airflow: CeleryAirflow, server: OpenAIServer, tmp_path: Path) -> None:
    rows = numbered(*range(SHARDS * SHARD_PASSAGES))
    conf = requests_of_few("shared", server.url, tmp_path, rows, TEXTS_PER_REQUEST, SHARD_PASSAGES)
    server.latency_seconds = 0.5  # while one worker waits for its shard, the other takes the next

    run, state = airflow.run_dag("vector_ingest", conf)

    assert state == "success", troubles(airflow)
    report = airflow.report("vector_ingest", run)
    stored = stored_rows(resolve([Layer("test", conf, tmp_path)]).settings, report["live"])
    assert {each["state"] for each in airflow.instances(run, "ingest")} == {"success"}
    assert len(airflow.instances(run, "ingest")) == SHARDS
    assert set(workers_at(airflow, run, "success")) == set(WORKERS)
    assert report["counts"]["embedded"] == report["counts"]["written"] == len(rows)
    assert sorted(row["text"] for row in stored.values()) == sorted(row["context"] for row in rows)
    assert KEY not in airflow.task_logs()


def test_a_run_whose_worker_is_switched_off_ends_green_on_the_other(
    airflow: CeleryAirflow, server: OpenAIServer, tmp_path: Path
) -> None:
    rows = numbered(*range(SHARDS * SHARD_PASSAGES))
    conf = requests_of_few("switched", server.url, tmp_path, rows, TEXTS_PER_REQUEST, SHARD_PASSAGES)
    server.latency_seconds = 2.0
    run = airflow.start_dag("vector_ingest", conf)
    airflow.wait_for(lambda: set(workers_at(airflow, run, "running")) == set(WORKERS), "a shard on each worker", 300)
    embedded_before = len(canary.TEXTS) + 2 * TEXTS_PER_REQUEST
    airflow.wait_for(lambda: len(server.embedded) >= embedded_before, "shards at work", 300)

    lost, kept = WORKERS
    victim = workers_at(airflow, run, "running")[lost]["map_index"]
    airflow.kill(lost)
    server.latency_seconds = 0.0
    state = airflow.end_of_run("vector_ingest", run, 500)

    assert state == "success", troubles(airflow)
    shards = airflow.instances(run, "ingest")
    report = airflow.report("vector_ingest", run)
    stored = stored_rows(resolve([Layer("test", conf, tmp_path)]).settings, report["live"])
    passages = {f"{row['title']}\n{row['context']}" for row in rows}
    assert shards[victim]["try_number"] >= 2 and shards[victim]["hostname"] == kept
    assert report["counts"]["written"] == report["counts"]["passages"] == len(rows)
    assert sorted(row["text"] for row in stored.values()) == sorted(row["context"] for row in rows)
    assert sum(server.embedded[text] > 1 for text in passages) <= SHARD_PASSAGES  # no other shard is sent again
