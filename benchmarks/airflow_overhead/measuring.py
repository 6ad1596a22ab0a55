"""One run of the DAG or of the command line, in seconds, and what the processes of workers hold."""

import os
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from threading import Event, Thread
from typing import Any

import psutil

from tests.dags.celery_airflow import CeleryAirflow

DAG = "vector_ingest"
STAGES = ("resolve", "plan", "ingest", "finish", "evaluate", "approve", "promote")


@dataclass(frozen=True)
class Task:
    """A task instance: when its process ran, in seconds after the run was queued, and how long it did our work."""

    name: str
    worker: str
    begin: float
    end: float
    work_seconds: float | None
    """By its own report; None of a shard, whose reports are summed."""

    @property
    def seconds(self) -> float:
        return self.end - self.begin


@dataclass(frozen=True)
class Run:
    """A run of the DAG that ended well."""

    seconds: float
    """From being queued to its end."""
    tasks: list[Task]
    report: dict[str, Any]

    def named(self, name: str) -> list[Task]:
        return [task for task in self.tasks if task.name == name]

    @property
    def shards_seconds(self) -> float:
        """From the first shard's begin to the last one's end."""
        shards = self.named("ingest")
        return max(task.end for task in shards) - min(task.begin for task in shards)


def dag_run(airflow: CeleryAirflow, conf: Mapping[str, Any], timeout_seconds: float = 1200) -> Run:
    """Trigger the DAG over REST and wait. Raises AssertionError when it ends red."""
    name, state = airflow.run_dag(DAG, dict(conf), timeout_seconds)
    assert state == "success", airflow.task_logs()[-3000:]
    run, report = airflow.get(f"dags/{DAG}/dagRuns/{name}"), airflow.report(DAG, name)
    queued = _moment(run["queued_at"])
    tasks = [
        Task(
            each["task_id"],
            each["hostname"],
            _moment(each["start_date"]) - queued,
            _moment(each["end_date"]) - queued,
            None if each["task_id"] == "ingest" else report["seconds"].get(each["task_id"], 0.0),
        )
        for stage in STAGES
        for each in airflow.instances(name, stage)
        if each["state"] == "success"
    ]
    return Run(_moment(run["end_date"]) - queued, tasks, report)


def command_seconds(conf: Mapping[str, Any]) -> float:
    """Seconds of the whole process of `squadron ingest`."""
    settings = [f"--set={key}={value}" for key, value in conf.items()]
    begin = time.monotonic()
    done = subprocess.run(
        [sys.executable, "-m", "squadron", "ingest", "--json", *settings], capture_output=True, text=True, check=False
    )
    if done.returncode:
        sys.exit(done.stderr)
    return time.monotonic() - begin


def pin(process_id: int, core: int) -> None:
    """A worker, and what it starts, keeps to one core."""
    worker = psutil.Process(process_id)
    for process in [worker, *worker.children(recursive=True)]:
        os.sched_setaffinity(process.pid, {core})


@contextmanager
def peak_megabytes(process_id: int) -> Iterator[list[float]]:
    """The most that any process below a worker held meanwhile, seen twice a second: the last of the list."""
    peak, over = [0.0], Event()

    def look() -> None:
        while not over.wait(0.5):
            for process in psutil.Process(process_id).children(recursive=True):
                try:
                    peak.append(max(peak[-1], process.memory_info().rss / 1e6))
                except psutil.NoSuchProcess:
                    continue

    thread = Thread(target=look)
    thread.start()
    try:
        yield peak
    finally:
        over.set()
        thread.join()


@contextmanager
def slow_service(latency_seconds: float) -> Iterator[str]:
    """An OpenAI server in a process of its own, which answers after so long: its address."""
    command = [sys.executable, "-m", "tests.wire.openai_server", "--cheap", "--latency-seconds", str(latency_seconds)]
    root = Path(__file__).resolve().parents[2]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=root)
    try:
        assert process.stdout
        yield process.stdout.readline().strip().rpartition("=")[2]
    finally:
        process.terminate()
        process.wait()


def _moment(text: str) -> float:
    return datetime.fromisoformat(text).timestamp()
