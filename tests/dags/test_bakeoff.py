"""The bake-off: pairs of embedding service and store, each built into a collection of its own, in one table."""

import json
from pathlib import Path
from typing import Any

import pytest

from squadron.runs.bakeoff import Pair, failed, measured, pairs, settings_of_pair, table
from squadron.settings.registry import EMBEDDINGS, STORES
from squadron.settings.schema import Settings
from tests.dags.local_airflow import ROOT, airflow_environment, make_database
from tests.dags.test_dag import run_python

HASHING, OPENAI = Pair("hashing", "lancedb"), Pair("openai", "lancedb")
REPORT: dict[str, Any] = {
    "metrics": {"recall_at_10": 0.5, "mrr_at_10": None, "ndcg_at_10": 0.25},
    "counts": {"passages": 1200},
    "passages_per_second": 99.96,
    "seconds": {"plan": 1.5, "ingest": 2.0},
    "cost": 0.5,
    "estimated_tokens": 10_000,
    "billed_cost": None,
    "billed_tokens": None,
}


def test_a_pair_is_built_from_nothing_into_a_collection_of_its_own() -> None:
    configured = Settings.model_validate(
        {"collection": "faq", "gate": {"min_recall_at_10": 0.9}, "embedding": {"openai": {"mode": "batch"}}}
    )

    first, second = (settings_of_pair(configured, OPENAI, bakeoff) for bakeoff in ("one", "two"))

    assert (first.collection, first.store.name) == ("bakeoff_openai_lancedb", "lancedb")
    assert (first.embedding.service, first.embedding.openai.mode) == ("openai", "sync")
    assert first.cache.path is None
    assert first.gate.min_recall_at_10 == 0
    assert first.embedding.variant != second.embedding.variant


def test_every_pair_of_the_registry_has_a_collection_that_no_other_has() -> None:
    every = pairs(EMBEDDINGS, [*STORES])

    names = {settings_of_pair(Settings(), pair, "any").collection for pair in every}

    assert len(names) == len(every) == len(EMBEDDINGS) * len(STORES)


def test_the_table_has_the_best_first_and_says_why_a_pair_failed() -> None:
    best = measured(HASHING, REPORT | {"metrics": REPORT["metrics"] | {"recall_at_10": 0.75}}, 512)
    billed = measured(Pair("cohere", "lancedb"), REPORT | {"billed_tokens": 0, "billed_cost": 0.0}, 1536)
    rows = [failed(OPENAI, ValueError("no | key,\nset one")), billed, best]

    lines = table(rows).splitlines()

    assert lines[0].startswith("| pair | recall@10 | MRR@10 | nDCG@10 |")
    assert lines[2] == ("| hashing x lancedb | 0.750 |  | 0.250 | 1,200 | 100.0 | 3.5 | 0.5000 | 10,000 | 512 |  |")
    assert lines[3].startswith("| cohere x lancedb | 0.500 |") and "| 0.0000 | 0 | 1536 |" in lines[3]
    assert lines[4].startswith("| openai x lancedb |  |") and lines[4].endswith("| ValueError: no \\| key, set one |")


@pytest.mark.slow
def test_a_pair_that_fails_does_not_hinder_the_others_and_the_configured_collection_is_left_alone(
    tmp_path: Path,
) -> None:
    environment = airflow_environment(tmp_path / "airflow") | {"PYTHONPATH": str(ROOT / "dags")}
    environment = {name: value for name, value in environment.items() if name != "OPENAI_API_KEY"}
    places = {
        "store.lancedb.uri": str(tmp_path / "lancedb"),
        "ingest.staging": str(tmp_path / "staging"),
        "cache.path": str(tmp_path / "cache"),
    }
    environment["AIRFLOW_VAR_VECTOR_INGEST"] = json.dumps(places | {"source.name": "sample"})
    make_database(environment)
    conf = {"embeddings": ["openai", "hashing"], "stores": ["lancedb"], "limit": 20}
    code = f"""
import json
from airflow.models.xcom import XComModel
from airflow.utils.session import create_session
from vector_bakeoff import vector_bakeoff_dag as dag
run = dag.test(run_conf={conf!r})
with create_session() as session:
    rows = session.scalars(XComModel.get_many(run_id=run.run_id, key="return_value", task_ids="table"))
    value = XComModel.deserialize_value(rows.one())
    tasks = run.get_task_instances(session=session)
    states = {{f"{{each.task_id}} {{each.map_index}}": str(each.state) for each in tasks}}
print(json.dumps([str(run.state), states, value]))
"""

    state, states, made = run_python(code, environment)

    assert (state, states["build 0"], states["build 1"]) == ("success", "failed", "success")
    rows = {row["pair"]: row for row in made["rows"]}
    assert rows["hashing x lancedb"]["recall@10"] > 0.3
    assert rows["hashing x lancedb"]["vector width"] > 0 and rows["hashing x lancedb"]["passages/s"] > 0
    assert "OPENAI_API_KEY" in rows["openai x lancedb"]["error"]
    assert made["table"].splitlines()[2].startswith("| hashing x lancedb |")
    tables = {path.name.split(".")[0] for path in (tmp_path / "lancedb").glob("*.lance")}
    assert tables and not [name for name in tables if name.startswith("squad")]
    assert not list(tmp_path.glob("cache/**/*.*"))
