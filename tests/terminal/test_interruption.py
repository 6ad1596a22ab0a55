"""Ctrl-C in a run: one line, the exit code of shells, and a rerun that goes on."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.dags.local_airflow import ROOT, airflow_environment, make_database
from tests.wire.faults import Fault
from tests.wire.openai_server import OpenAIServer

KEY = "sk-test-0123456789abcdef"


@pytest.fixture
def stuck() -> Iterator[tuple[OpenAIServer, Fault]]:
    """A service that does not answer its sixth request, and this fault."""
    with OpenAIServer(key=KEY) as server:
        yield server, server.faults.add("/embeddings", every=6, times=1, delay_seconds=300)


def test_ctrl_c_ends_with_one_line_and_130_and_the_rerun_goes_on(
    stuck: tuple[OpenAIServer, Fault], tmp_path: Path
) -> None:
    server, fault = stuck
    command = [sys.executable, "-m", "squadron", "ingest", *_pairs(server, tmp_path)]
    environment = os.environ | {"OPENAI_API_KEY": KEY}

    code, lines = _interrupted(command, environment, fault, tmp_path)
    again = subprocess.run([*command, "--json"], cwd=ROOT, env=environment, capture_output=True, text=True, timeout=120)

    assert code == 130
    assert lines[-1].startswith("interrupted; ")
    assert not any("Traceback" in line for line in lines)
    assert not list((tmp_path / "staging").rglob("*.parquet"))
    assert again.returncode == 0, again.stderr
    counts = json.loads(again.stdout)["counts"]
    assert counts["cached"] + counts["unchanged"] >= 16
    assert counts["embedded"] <= counts["passages"] - 16


@pytest.mark.slow
def test_ctrl_c_in_a_run_of_the_dag_does_the_same(stuck: tuple[OpenAIServer, Fault], tmp_path: Path) -> None:
    server, fault = stuck
    environment = airflow_environment(tmp_path / "airflow") | {"OPENAI_API_KEY": KEY}
    make_database(environment)

    code, lines = _interrupted([sys.executable, "dags", *_pairs(server, tmp_path)], environment, fault, tmp_path)

    assert code == 130
    assert lines[-1].startswith("interrupted; ")
    assert not any("Traceback" in line for line in lines)


def _pairs(server: OpenAIServer, folder: Path) -> list[str]:
    pairs = {
        "collection": "books",
        "source.name": "sample",
        "embedding.service": "openai",
        "embedding.openai.base_url": f"{server.url}/v1",
        "ingest.batch_passages": 16,
        "store.lancedb.uri": folder / "lancedb",
        "ingest.staging": folder / "staging",
        "cache.path": folder / "cache",
    }
    return [f"--set={key}={value}" for key, value in pairs.items()]


def _interrupted(command: list[str], environment: dict[str, str], fault: Fault, folder: Path) -> tuple[int, list[str]]:
    """The exit code, and the lines on stderr, of a run that gets SIGINT when it waits and has cached something."""
    run = subprocess.Popen(command, cwd=ROOT, env=environment, stderr=subprocess.PIPE, text=True)
    try:
        deadline = time.monotonic() + 120
        while not (fault.done and any((folder / "cache").rglob("*.parquet"))):
            assert run.poll() is None and time.monotonic() < deadline, "the run never waited for the service"
            time.sleep(0.05)
        run.send_signal(signal.SIGINT)
        lines = run.communicate(timeout=30)[1].splitlines()
    finally:
        run.kill()
    return run.returncode, lines
