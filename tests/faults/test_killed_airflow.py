"""Kills in a real Airflow: a worker that the kernel kills, and a scheduler that goes down, cost a run time only.

The documents are hostile ones: what Airflow would take for a template is in them, and comes through as it is.
"""

import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from squadron.generations import model_canary as canary
from squadron.settings.layers import Layer, resolve
from squadron.settings.schema import Settings
from tests.dags.local_airflow import LocalAirflow
from tests.faults.hostile import hostile_rows
from tests.whole_runs import numbered, requests_of_few, stored_rows
from tests.wire.openai_server import OpenAIServer

pytestmark = [pytest.mark.airflow, pytest.mark.slow, pytest.mark.xdist_group("airflow services")]

KEY = "sk-killed-0123456789abcdef"
TEXTS_PER_REQUEST = 4


class MortalAirflow(LocalAirflow):
    """An Airflow that soon notices who is dead, and whose parts can be killed and started again."""

    def __init__(self, home: Path) -> None:
        super().__init__(home)
        self._environment |= {
            "AIRFLOW__SCHEDULER__TASK_INSTANCE_HEARTBEAT_SEC": "2",
            "AIRFLOW__SCHEDULER__TASK_INSTANCE_HEARTBEAT_TIMEOUT": "30",
            "AIRFLOW__SCHEDULER__TASK_INSTANCE_HEARTBEAT_TIMEOUT_DETECTION_INTERVAL": "5",
            "AIRFLOW__SCHEDULER__ORPHANED_TASKS_CHECK_INTERVAL": "10",
        }

    def restart(self, part: str) -> None:
        """Kill a part, with all processes that it has started and that did not leave its group; start it again."""
        number = self._parts.index(part)
        os.killpg(self._processes[number].pid, signal.SIGKILL)
        self._processes[number].wait()
        log = (self._logs / f"{part}.log").open("ab")
        command = ["airflow", part]
        self._processes[number] = subprocess.Popen(
            command, env=self._environment, stdout=log, stderr=log, start_new_session=True
        )

    def instances(self, run: str, task: str) -> list[dict[str, Any]]:
        """The instances of a task of a run, in the order of their shards."""
        found = self.get(f"dags/vector_ingest/dagRuns/{run}/taskInstances")["task_instances"]
        return sorted((each for each in found if each["task_id"] == task), key=lambda each: each["map_index"])


@pytest.fixture(scope="module")
def airflow(tmp_path_factory: pytest.TempPathFactory) -> Iterator[MortalAirflow]:
    with MortalAirflow(tmp_path_factory.mktemp("airflow")) as running:
        running.set_connection("openai_default", "generic", KEY)
        yield running


def wait_for(done: Callable[[], bool], what: str, seconds: float = 300) -> None:
    """Look twice a second."""
    deadline = time.monotonic() + seconds
    while not done():
        assert time.monotonic() < deadline, f"waited {seconds} s for {what}"
        time.sleep(0.5)


def settings_of(values: dict[str, Any], folder: Path) -> Settings:
    return resolve([Layer("test", values, folder)]).settings


def test_a_run_whose_worker_and_scheduler_are_killed_ends_green_and_sends_again_only_what_was_in_flight(
    airflow: MortalAirflow, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    rows = [*hostile_rows(), *numbered(*range(69), question=None)]
    with OpenAIServer(KEY) as server:
        conf = requests_of_few("killed", server.url, tmp_path, rows, TEXTS_PER_REQUEST, 40)
        server.latency_seconds = 1.5
        run = airflow.start_dag("vector_ingest", conf)
        wait_for(lambda: len(server.embedded) > len(canary.TEXTS) + 6 * TEXTS_PER_REQUEST, "the shards to be at work")
        airflow.task_in_state("vector_ingest", run, "ingest", "running")
        (victim, *_) = (each for each in airflow.instances(run, "ingest") if each["state"] == "running")
        os.kill(victim["pid"], signal.SIGKILL)
        wait_for(lambda: airflow.instances(run, "ingest")[victim["map_index"]]["state"] == "up_for_retry", "the retry")
        airflow.restart("scheduler")
        server.latency_seconds = 0.0
        state = airflow.end_of_run("vector_ingest", run, 500)

        assert state == "success", airflow.task_logs()[-5000:]
        shards = airflow.instances(run, "ingest")
        report = airflow.report("vector_ingest", run)
        counts = report["counts"]
        stored = stored_rows(settings_of(conf, tmp_path), report["live"])
        passages = {f"{row['title']}\n{row['context']}" for row in rows}
        sent = {text: times for text, times in server.embedded.items() if text in passages}

        assert len(shards) == 2
        assert shards[victim["map_index"]]["try_number"] >= 2
        assert counts["embedded"] + counts["cached"] == counts["written"] == counts["passages"] == len(rows)
        assert sorted(row["text"] for row in stored.values()) == sorted(row["context"] for row in rows)
        assert len(sent) == len(rows)
        assert sum(times > 1 for times in sent.values()) <= 2 * TEXTS_PER_REQUEST  # one request of each shard
        assert report["example_question"] in {row["question"] for row in hostile_rows()}
        assert KEY not in airflow.task_logs()
