"""A hub that cannot be connected to is said so at once, and what the local cache holds is read without it."""

import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet
import pytest

from tests.hub import serving

_READ = """
import json
from squadron.errors import SourceError
from squadron.settings.schema import SourceSettings
from squadron.sources.squad_source import read_rows
from huggingface_hub import constants
try:
    found = [text for rows in read_rows(SourceSettings()) for text in rows["text"].to_pylist()]
except SourceError as error:
    found = str(error)
print(json.dumps([found, constants.HF_HUB_OFFLINE]))
"""


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    folder = tmp_path / "copy"
    (folder / "plain_text").mkdir(parents=True)
    table = pa.table({"id": ["1"], "title": ["Tea"], "context": ["Tea is a drink."], "question": ["What is tea?"]})
    pyarrow.parquet.write_table(table, folder / "plain_text" / "train-00000-of-00001.parquet")
    return folder


def read(tmp_path: Path, hub: str) -> tuple[list[str] | str, bool, str]:
    """What a fresh process reads of SQuAD or is told, whether its hub's client stays offline, and its stderr."""
    ran = run(tmp_path, _READ, HF_ENDPOINT=hub)
    return *json.loads(ran.stdout), ran.stderr


def run(tmp_path: Path, code: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """A fresh process: the libraries read their environment once."""
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("HF_")}
    return subprocess.run(
        [sys.executable, "-c", code],
        env=inherited | {"HF_HOME": str(tmp_path / "huggingface")} | environment,
        capture_output=True,
        text=True,
        check=True,
        timeout=300,
    )


def nobody() -> str:
    """An address that refuses connections."""
    with socket.socket() as door:
        door.bind(("127.0.0.1", 0))
        return f"http://127.0.0.1:{door.getsockname()[1]}"


def test_without_a_hub_the_error_comes_without_the_retries_of_its_client(tmp_path: Path) -> None:
    said, offline, stderr = read(tmp_path, nobody())

    assert said == (
        "the Hugging Face Hub cannot be reached and 'rajpurkar/squad' is not in the local cache: "
        "go online, or set source.path to a local copy, or use source.name=files or sample"
    )
    assert "Retrying" not in stderr
    assert not offline


@pytest.mark.slow
def test_without_a_hub_what_was_read_before_is_read_again(tmp_path: Path, copy: Path) -> None:
    with serving("rajpurkar/squad", copy) as hub:
        first, *_ = read(tmp_path, hub)

    again, _, stderr = read(tmp_path, nobody())

    assert first == again == ["Tea is a drink."]
    assert "Retrying" not in stderr


def test_a_hub_that_does_not_answer_in_time_is_not_away(tmp_path: Path) -> None:
    code = "from squadron.process.hub import hub_state; print(hub_state().name)"
    with socket.socket() as door:
        door.bind(("127.0.0.1", 0))
        door.listen()  # it accepts, and says nothing
        hub = f"http://127.0.0.1:{door.getsockname()[1]}"
        told = run(tmp_path, code, HF_ENDPOINT=hub, HF_HUB_ETAG_TIMEOUT="1")

    assert told.stdout.strip() == "SILENT"
