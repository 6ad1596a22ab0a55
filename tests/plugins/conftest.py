"""The page of a collection with two generations: of a run of the DAG, then of one on the command line."""

import json
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest

from squadron.runs import whole_run
from squadron.settings.layers import Layer, resolve
from squadron.settings.schema import Settings
from tests.dags.local_airflow import ROOT
from tests.plugins.page_server import PageServer
from tests.whole_runs import numbered, write_corpus

HOSTILE = {
    "id": "hostile",
    "title": "<img src=x onerror=\"document.title='owned'\">",
    "context": "A scripted thing </p><script>document.title='owned'</script> of a hostile corpus & its 'quotes'.",
    "question": "What is scripted, of a hostile corpus?",
}
BLANK = {"id": "blank", "title": "<b>Nothing</b>", "context": " ", "question": "What is there?"}


@dataclass(frozen=True)
class Page:
    """The server, and a collection: what it is reached by, its generations in the order they went live."""

    server: PageServer
    settings: Settings
    first: str
    second: str


@pytest.fixture(scope="package")
def page(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Page]:
    folder = tmp_path_factory.mktemp("page")
    values = write_corpus(folder / "corpus.jsonl", [*numbered(*range(20)), HOSTILE, BLANK])
    values |= {
        "collection": "books",
        "embedding.service": "hashing",
        "store.lancedb.uri": str(folder / "lancedb"),
        "ingest.staging": str(folder / "staging"),
        "cache.path": str(folder / "cache"),
        "guard.max_quarantined_fraction": "0.5",
    }
    with PageServer(folder / "airflow") as server:
        first = _dag_run(values, server)["generation"]
        assert server.get("api/collections/books", "viewer")[1]["generations"][0]["generation"] == first
        changed = _settings(values | {"passages.template": "plain_v1"})
        second = whole_run.ingest(changed)["generation"]  # after the server has opened the store
        yield Page(server, _settings(values), first, second)


def _dag_run(values: dict[str, Any], server: PageServer) -> dict[str, Any]:
    command = [sys.executable, "dags", "--json", *(f"--set={key}={value}" for key, value in values.items())]
    done = subprocess.run(command, env=server.environment, cwd=ROOT, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stdout + done.stderr
    return json.loads(done.stdout)


def _settings(values: dict[str, Any]) -> Settings:
    return resolve([Layer("test", values, ROOT)]).settings
