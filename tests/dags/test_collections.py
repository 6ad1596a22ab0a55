"""A file in config/ makes a DAG; a broken file breaks its own alone; the DAGs beside the ingest do what they say."""

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.dags.local_airflow import ROOT, airflow_environment, make_database
from tests.dags.test_dag import run_python

SHOW = """
import json
from airflow.sdk import DAG
import vector_ingest
try:
    import config_errors
    error = None
except Exception as found:
    error = str(found)
dags = {value.dag_id: value for value in vars(vector_ingest).values() if isinstance(value, DAG)}
print(json.dumps({"error": error, "dags": {
    name: {"schedule": str(dag.schedule), "limit": dag.params.get_param("source.limit").description}
    for name, dag in dags.items()}}))
"""


BROKEN = {
    "faq": ("collection = ", "config/faq.toml is not valid TOML"),
    "misspelt": ('[sorce]\nname = "sample"\n', "'sorce' is not a setting"),
    "nightly": ('schedule = "every night"\n', "schedule = 'every night': wanted a cron expression"),
    "elsewhere": ('[store]\nname = "lancdb"\n', "did you mean 'lancedb'?"),
}
"""Name of a file -> what is in it, and what is said of that."""


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """A project's folder of its own."""
    shutil.copytree(ROOT / "config", tmp_path / "home" / "config")
    return tmp_path / "home"


def parsed(home: Path) -> dict[str, Any]:
    """What Airflow gets to see of the DAG files."""
    return run_python(
        SHOW, airflow_environment(home / "airflow") | {"PYTHONPATH": str(ROOT / "dags"), "SQUADRON_HOME": str(home)}
    )


def test_every_collection_has_a_dag_with_its_own_schedule_and_defaults(home: Path) -> None:
    (home / "config" / "faq.toml").write_text('schedule = "30 4 * * 1"\n[source]\nname = "sample"\nlimit = 50\n')
    (home / "config" / "docs.toml").write_text('schedule = "asset:corpus of documents"\n[source]\nname = "sample"\n')

    seen = parsed(home)

    assert seen["error"] is None
    assert sorted(seen["dags"]) == ["vector_ingest", "vector_ingest_docs", "vector_ingest_faq", "vector_ingest_sample"]
    assert seen["dags"]["vector_ingest"]["schedule"] == "0 3 * * *"
    assert seen["dags"]["vector_ingest_faq"]["schedule"] == "30 4 * * 1"
    assert "corpus of documents" in seen["dags"]["vector_ingest_docs"]["schedule"]
    assert seen["dags"]["vector_ingest_sample"]["schedule"] == "None"
    assert "(config: 50)" in seen["dags"]["vector_ingest_faq"]["limit"]


def test_broken_files_break_their_own_dags_alone_and_say_how(home: Path) -> None:
    for name, (text, _) in BROKEN.items():
        (home / "config" / f"{name}.toml").write_text(text)

    seen = parsed(home)

    assert sorted(seen["dags"]) == ["vector_ingest", "vector_ingest_sample"]
    for name, (_, told) in BROKEN.items():
        assert f"config/{name}.toml makes no DAG" in seen["error"]
        assert told in seen["error"]


@pytest.mark.slow
def test_the_dags_beside_the_ingest_verify_repair_and_roll_back(tmp_path: Path) -> None:
    environment = airflow_environment(tmp_path / "airflow") | {"PYTHONPATH": str(ROOT / "dags")}
    settings = {
        "collection": "sample",
        "source.limit": "40",
        "embedding.service": "hashing",
        **{"store.lancedb.uri": str(tmp_path / "lancedb"), "ingest.staging": str(tmp_path / "staging")},
        "cache.path": str(tmp_path / "cache"),
        "gate.max_drop": "1",
    }
    variable = json.dumps({key: value for key, value in settings.items() if key != "collection"})
    environment["AIRFLOW_VAR_VECTOR_INGEST"] = variable
    make_database(environment)

    def squadron(*arguments: str) -> Any:
        command = [sys.executable, "-m", "squadron", *arguments, "--json"]
        command += [f"--set={key}={value}" for key, value in settings.items()]
        done = subprocess.run(command, env=environment, cwd=ROOT, capture_output=True, text=True, timeout=180)
        return json.loads(done.stdout)

    def dag_run(dag: str, conf: dict[str, Any]) -> list[Any]:
        code = f"""
import json
from airflow.models.xcom import XComModel
from airflow.utils.session import create_session
from {dag} import {dag}_dag as dag
run = dag.test(run_conf={conf!r})
with create_session() as session:
    values = [XComModel.deserialize_value(row) for row in session.scalars(XComModel.get_many(
        run_id=run.run_id, key="return_value", task_ids={{"vector_verify": "verify"}}.get("{dag}", "rollback")))]
print(json.dumps([str(run.state), values]))
"""
        return run_python(code, environment)

    first = squadron("ingest")
    settings["passages.template"] = "plain_v1"
    second = squadron("ingest")
    assert second["live"] == second["generation"] != first["generation"]

    state, _ = dag_run("vector_rollback", {"collection": "sample"})
    assert state == "success"
    assert squadron("generations")["generations"][-1]["live"]

    state, (report,) = dag_run("vector_verify", {"collection": "sample"})
    assert (state, report["sound"], report["generation"]) == ("success", True, first["generation"])
    state, reports = dag_run("vector_verify", {"collection": "sample", "repar": True})
    assert (state, reports) == ("failed", [])
