"""The DAG in batch mode, in a real Airflow with a triggerer: the task waits without a worker."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from squadron.embeddings.openai_batch.service import TRIES
from squadron.runs.whole_run import ingest
from squadron.settings.layers import Layer, resolve
from tests.dags.local_airflow import LocalAirflow
from tests.whole_runs import stored_rows
from tests.wire.openai_batch_server import OpenAIBatchServer

pytestmark = [pytest.mark.airflow, pytest.mark.slow, pytest.mark.xdist_group("airflow services")]

KEY = "sk-airflow-batch-0123456789abcdef"


@pytest.fixture(scope="module")
def airflow(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalAirflow]:
    with LocalAirflow(tmp_path_factory.mktemp("airflow"), more=("triggerer",)) as running:
        running.set_connection("openai_default", "generic", KEY)
        yield running


def conf(server: OpenAIBatchServer, folder: Path) -> dict[str, object]:
    return {
        "collection": "batched",
        "source.name": "sample",
        "source.limit": 30,
        "evaluation.max_questions": 0,
        "embedding.service": "openai",
        "embedding.openai.mode": "batch",
        "embedding.openai.batch_poll_seconds": 0.5,
        "embedding.openai.dimensions": 256,
        "embedding.openai.base_url": server.url + "/v1",
        "store.lancedb.uri": str(folder / "lancedb"),
        "ingest.staging": str(folder / "staging"),
        "cache.path": str(folder / "cache"),
    }


def test_the_task_waits_deferred_and_its_retry_knows_the_batch_and_nothing_shows_the_key(
    airflow: LocalAirflow, tmp_path: Path
) -> None:
    with OpenAIBatchServer(key=KEY) as server:
        server.held = True
        run = airflow.start_dag("vector_ingest", conf(server, tmp_path))
        waiting = airflow.task_in_state("vector_ingest", run, "ingest", "deferred", 600)
        outage = server.faults.add("GET /v1/batches/", times=4, status=500)
        asked = sum(seen.line.startswith("GET /v1/batches/") for seen in server.seen)
        server.wait_for("GET /v1/batches/", asked + 6)  # the triggerer asks, with the key of the Connection
        still = airflow.task_in_state("vector_ingest", run, "ingest", "deferred", 600)
        stored = airflow.database()
        # The first look at what the batch brought fails, however often it is tried; the task's retry looks again.
        server.faults.add("GET /v1/files/", times=TRIES + 1, status=500, headers={"retry-after-ms": "1"})
        server.held = False

        assert airflow.end_of_run("vector_ingest", run, 600) == "success", airflow.task_logs()[-5000:]

    assert still["pid"] == waiting["pid"]
    assert len(server.batches) == 1
    (trigger,) = stored["trigger"]
    assert "openai_batch_wait.BatchesEnded" in trigger
    assert "batch_0000" in trigger
    assert "batch_0000" in stored["task_state_store"][0]
    tasks = airflow.get(f"dags/vector_ingest/dagRuns/{run}/taskInstances")["task_instances"]
    (done,) = [each for each in tasks if each["task_id"] == "ingest"]
    counts = airflow.report("vector_ingest", run)["counts"]
    assert counts["embedded"] == counts["written"] == counts["passages"]
    assert done["rendered_map_index"] == f"shard 1: {counts['passages']} passages"
    assert (done["try_number"], outage.done) == (2, 4)
    assert sum(seen.line == "GET /v1/batches" for seen in server.seen) == 1  # before the batch was created
    logs = airflow.task_logs()
    assert "batch_0000" in logs
    told = [logs, *(row for tables in (stored, airflow.database()) for rows in tables.values() for row in rows)]
    assert not [each for each in told if KEY in each]


def test_what_a_batch_left_out_is_not_sent_again_once_another_run_has_planned(
    airflow: LocalAirflow, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    with OpenAIBatchServer(key=KEY) as server:
        server.held, server.ends = True, ["expired"]
        run = airflow.start_dag("vector_ingest", conf(server, tmp_path))
        airflow.task_in_state("vector_ingest", run, "ingest", "deferred", 600)
        changes: dict[str, object] = {"embedding.openai.mode": "sync", "source.limit": 10}
        settings = resolve([Layer("another run", conf(server, tmp_path) | changes, tmp_path)]).settings
        other = ingest(settings)
        server.held = False

        assert airflow.end_of_run("vector_ingest", run, 600) == "failed"
        assert [batch.status for batch in server.batches] == ["expired"]

    assert "is out of date, and nothing was done" in airflow.task_logs()
    assert other["live"] == other["generation"]
    assert len(stored_rows(settings, other["generation"])) == other["counts"]["passages"]
