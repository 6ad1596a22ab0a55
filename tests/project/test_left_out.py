"""A run of the tests says what it leaves out, before pytest's own last line."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
HOOKS = "from tests.left_out import *"
TESTS = """
import pytest

def test_quick(): pass

@pytest.mark.slow
def test_slow(): pass

@pytest.mark.slow
def test_slower(): pass

@pytest.mark.exhaustive
def test_exhaustive(): pass
"""


@pytest.mark.parametrize("processes", [[], ["-n", "2"]], ids=["one process", "xdist"])
@pytest.mark.parametrize(
    ("markers", "passed", "left"),
    [
        ("not slow", 1, "left to be run: 2 slow tests with `make test-all`, 1 exhaustive tests with `-m exhaustive`"),
        ("slow", 2, "left to be run: 1 exhaustive tests with `-m exhaustive`"),
    ],
)
def test_the_last_lines_say_what_is_left_and_what_passed(
    tmp_path: Path, processes: list[str], markers: str, passed: int, left: str
) -> None:
    (tmp_path / "conftest.py").write_text(HOOKS)
    (tmp_path / "test_any.py").write_text(TESTS)
    (tmp_path / "pytest.ini").write_text("[pytest]\nmarkers = slow\n    exhaustive\n")

    done = subprocess.run(
        [sys.executable, "-m", "pytest", *processes, "-m", markers],
        cwd=tmp_path,
        env={name: value for name, value in os.environ.items() if not name.startswith("PYTEST")}
        | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=120,
    )

    *_, last_but_one, last = done.stdout.splitlines()
    assert last_but_one == left
    assert f"{passed} passed" in last
