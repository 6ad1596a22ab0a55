"""The Makefile: what it is given reaches the programs as it is, and its help is complete."""

import itertools
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from squadron.runs import whole_run
from squadron.settings.schema import Settings

ROOT = Path(__file__).resolve().parents[2]
Make = Callable[..., "subprocess.CompletedProcess[str]"]
ECHO = """#!{python}
import json, os, sys
print(json.dumps({{"arguments": sys.argv[1:], "airflow_home": os.environ.get("AIRFLOW_HOME")}}))
"""

pytestmark = pytest.mark.skipif(not shutil.which("make"), reason="make is not installed: apt-get install make")


@pytest.fixture
def make(tmp_path: Path) -> Make:
    """Runs `make` in a folder with this Makefile, whose virtual environment holds the programs of `environment`."""
    shutil.copy(ROOT / "Makefile", tmp_path)
    for name in ("requirements.txt", "pyproject.toml", ".venv/.installed"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()

    def run(*arguments: str, program: str = ECHO) -> "subprocess.CompletedProcess[str]":
        python = tmp_path / ".venv/bin/python"
        python.parent.mkdir(exist_ok=True)
        python.write_text(program.format(python=sys.executable))
        python.chmod(0o755)
        usual = {name: value for name, value in os.environ.items() if name != "AIRFLOW_HOME"}
        return subprocess.run(
            ["make", "--no-print-directory", *arguments],
            cwd=tmp_path,
            env=usual | {"PYTHONPATH": str(ROOT)},
            capture_output=True,
            text=True,
            timeout=120,
        )

    return run


def echoed(done: "subprocess.CompletedProcess[str]") -> Any:
    """What the program in the place of Python was given."""
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_help_lists_every_target(make: Make) -> None:
    targets = re.findall(r"^([\w-]+):(?!=)", (ROOT / "Makefile").read_text(), re.MULTILINE)

    shown = re.findall(r"^  make ([\w-]+) +\S", make("help").stdout, re.MULTILINE)

    assert len(shown) > 8
    assert sorted(shown) == sorted(set(targets))


@pytest.mark.parametrize("target", ["ingest", "search"])
@pytest.mark.parametrize(
    ("given", "pairs"),
    [
        ("SOURCE=my tickets.csv", ["source.name=files", "source.path=my tickets.csv"]),
        ("SOURCE=a'b\"c$d;e.csv", ["source.name=files", "source.path=a'b\"c$d;e.csv"]),
        ("SOURCE=$(shell touch caught)", ["source.name=files", "source.path=$(shell touch caught)"]),
        ("LIMIT=5", ["source.limit=5"]),
        ("COLLECTION=tickets", ["collection=tickets"]),
        ("EMBEDDING=hashing", ["embedding.service=hashing"]),
        ("STORE=pgvector", ["store.name=pgvector"]),
        (
            'SET=source.columns.metadata=["a", "b"] source.limit=5',
            ['source.columns.metadata=["a", "b"] source.limit=5'],
        ),
        ("SET=source.path=$HOME/`touch caught`", ["source.path=$HOME/`touch caught`"]),
    ],
)
def test_variables_become_settings_as_they_are(
    make: Make, tmp_path: Path, target: str, given: str, pairs: list[str]
) -> None:
    arguments = echoed(make(target, given))["arguments"]

    assert [value for option, value in itertools.pairwise(arguments) if option == "--set"] == pairs
    assert not (tmp_path / "caught").exists()


@pytest.mark.parametrize(
    "question", ["`touch caught`", "$(touch caught)", "$(shell touch caught)", "'\"; touch caught #", "--help"]
)
def test_a_question_reaches_the_search_as_it_is(make: Make, tmp_path: Path, question: str) -> None:
    arguments = echoed(make("search", f"Q={question}"))["arguments"]

    assert arguments == ["-m", "squadron", "search", "--", question]
    assert not (tmp_path / "caught").exists()


def test_a_hostile_question_is_answered(make: Make, settings_with: Callable[..., Settings], tmp_path: Path) -> None:
    settings = settings_with(**{"source.limit": 10})
    whole_run.ingest(settings)
    pairs = f"collection=books embedding.service=hashing store.lancedb.uri={settings.store.lancedb.uri}"
    question = "steel $HOME `touch caught` $(touch caught) $(shell touch caught) \"' \\ ; touch caught"

    done = make("search", f"Q={question}", f"SET={pairs}", program='#!/bin/sh\nexec "{python}" "$@"\n')

    assert done.returncode == 0, done.stderr
    assert " ".join(done.stdout.split()).startswith(question)  # a terminal's width breaks it into lines
    assert "  1  " in done.stdout
    assert not (tmp_path / "caught").exists()


def test_a_run_of_the_dag_is_not_in_the_database_of_make_airflow(make: Make) -> None:
    """A scheduler that runs would take its tasks."""
    given = echoed(make("ingest"))
    code = "import runpy; print(runpy.run_path('dags/__main__.py')['AIRFLOW_SETTINGS']['AIRFLOW_HOME'])"

    chosen = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True).stdout

    assert given == {"arguments": ["dags"], "airflow_home": None}
    airflow_home = re.search(
        r"^airflow: export AIRFLOW_HOME \?= \$\(CURDIR\)/(\S+)", (ROOT / "Makefile").read_text(), re.M
    )
    assert airflow_home and chosen.strip() != str(ROOT / airflow_home[1])
