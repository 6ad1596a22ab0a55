"""The page of a collection with two generations: of a run of the DAG, then of one on the command line."""

from dataclasses import dataclass
from typing import Any

import pytest

from squadron.runs import whole_run
from squadron.settings.layers import Layer, resolve
from squadron.settings.schema import Settings
from tests.dags.local_airflow import ROOT, LocalAirflow
from tests.plugins.page_server import PageClient
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

    server: PageClient
    settings: Settings
    first: str
    second: str


@pytest.fixture(scope="package")
def page(running_airflow: LocalAirflow, tmp_path_factory: pytest.TempPathFactory) -> Page:
    folder = tmp_path_factory.mktemp("page")
    values = write_corpus(folder / "corpus.jsonl", [*numbered(*range(20)), HOSTILE, BLANK])
    values |= {
        "collection": "books",
        "embedding.service": "hashing",
        "store.lancedb.uri": str(folder / "lancedb"),
        "ingest.staging": str(folder / "staging"),
        "cache.path": str(folder / "cache"),
        "guard.max_quarantined_fraction": 0.5,
    }
    server = PageClient(running_airflow.environment)
    server.log_in()
    run, state = running_airflow.run_dag("vector_ingest", values)
    assert state == "success", running_airflow.task_logs()[-5000:]
    first = running_airflow.report("vector_ingest", run)["generation"]
    assert server.get("api/collections/books", "viewer")[1]["generations"][0]["generation"] == first
    changed = _settings(values | {"passages.template": "plain_v1"})
    second = whole_run.ingest(changed)["generation"]  # after the server has opened the store
    return Page(server, _settings(values), first, second)


def _settings(values: dict[str, Any]) -> Settings:
    return resolve([Layer("test", values, ROOT)]).settings
