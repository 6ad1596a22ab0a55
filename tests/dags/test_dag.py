"""The DAG as a file: what importing it costs and touches, its shape, its form, and a run in this process."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.dags.local_airflow import ROOT, airflow_environment, make_database

SECRETS = '''
from airflow.secrets import BaseSecretsBackend


class Forbidden(BaseSecretsBackend):
    """Answers every look-up by an error."""

    def get_variable(self, key, *args, **kwargs):
        raise AssertionError(f"Variable {key} was read")

    def get_connection(self, conn_id, *args, **kwargs):
        raise AssertionError(f"Connection {conn_id} was read")

    get_conn_value = get_connection
'''


@pytest.fixture(scope="module")
def environment(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    folder = tmp_path_factory.mktemp("airflow")
    (folder / "forbidden_secrets.py").write_text(SECRETS)
    return airflow_environment(folder) | {"PYTHONPATH": f"{ROOT / 'dags'}:{ROOT / 'plugins'}:{folder}"}


def run_python(code: str, environment: dict[str, str]) -> Any:
    """What the code prints last, read as JSON."""
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", code], env=environment, capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return json.loads(done.stdout.strip().splitlines()[-1])


def test_importing_it_imports_nothing_heavy(environment: dict[str, str]) -> None:
    code = """
import json, sys
from airflow.exceptions import AirflowNotFoundException
from airflow.sdk import BaseHook, ExceptionRetryPolicy, Param, Variable, dag, get_current_context, task
@dag(schedule=None)
def empty():
    @task
    def nothing(): pass
    nothing()
empty()
import vector_ingest, vector_verify, vector_rollback, config_errors
print(json.dumps(sorted(sys.modules)))
"""
    seen = run_python(code, environment)

    heavy = {"torch", "lancedb", "hamilton", "datasets", "sentence_transformers", "openvino", "openai"}
    assert not heavy & set(seen)


@pytest.mark.parametrize(("line", "reads"), [("import vector_ingest", False), ("Variable.get('any')", True)])
def test_parsing_reads_no_variable_and_no_connection(environment: dict[str, str], line: str, reads: bool) -> None:
    code = f"""
import json
from airflow.sdk import Variable
try:
    {line}
    print(json.dumps(""))
except Exception as error:
    print(json.dumps(repr(error)))
"""
    backend = {"AIRFLOW__SECRETS__BACKEND": "forbidden_secrets.Forbidden"}

    said = run_python(code, environment | backend)

    assert bool(said) is reads, said


def test_its_shape_is_the_one_that_is_documented(environment: dict[str, str]) -> None:
    code = """
import json
from vector_ingest import squad_dag as dag
print(json.dumps({
    "order": {task.task_id: sorted(task.upstream_task_ids) for task in dag.tasks},
    "max_active_runs": dag.max_active_runs,
    "schedule": dag.schedule,
    "params": {key: [value.value, {**value.schema, "description": value.description}] for key, value in
               ((key, dag.params.get_param(key)) for key in dag.params)},
}))
"""
    seen = run_python(code, environment)

    assert list(seen["order"]) == ["resolve", "plan", "ingest", "finish", "evaluate", "approve", "promote"]
    assert seen["max_active_runs"] == 1
    assert seen["schedule"] == "0 3 * * *"
    values = {key: value for key, (value, _) in seen["params"].items()}
    assert set(values.values()) == {None}  # null inherits; a value would beat every Variable
    schemas = {key: schema for key, (_, schema) in seen["params"].items()}
    assert schemas["store.name"]["enum"][:2] == [None, "lancedb"]
    assert schemas["passages.template"]["enum"] == [None, "title_text_v1", "plain_v1"]
    assert schemas["source.limit"] | {"type": ["null", "integer"], "exclusiveMinimum": 0} == schemas["source.limit"]
    assert all(schema["section"] and schema["description"] for schema in schemas.values())


def test_it_runs_end_to_end_in_one_process_and_twice_embeds_once(environment: dict[str, str], tmp_path: Path) -> None:
    make_database(environment)
    pairs = {
        "collection": "inprocess",
        "source.limit": "90",
        "source.columns.metadata": "[]",
        "vector_store": "lancedb",
        "source.name": "sample",
        "embedding.service": "hashing",
        "store.lancedb.uri": str(tmp_path / "lancedb"),
        "ingest.staging": str(tmp_path / "staging"),
        "cache.path": str(tmp_path / "cache"),
    }
    command = [sys.executable, "dags", "--json", *(f"--set={key}={value}" for key, value in pairs.items())]

    first, second = (
        subprocess.run(command, env=environment, cwd=ROOT, capture_output=True, text=True, timeout=180)
        for _ in range(2)
    )

    assert first.returncode == second.returncode == 0, first.stderr + second.stderr
    reports = [json.loads(done.stdout) for done in (first, second)]
    assert first.stderr.startswith("Starting Airflow")
    for seconds in (report["seconds"] for report in reports):
        assert list(seconds)[-2:] == ["airflow", "total"]
        assert sum(seconds.values()) == pytest.approx(2 * seconds["total"], abs=0.01)
    counts = [report["counts"] for report in reports]
    assert [each["embedded"] for each in counts] == [92, 0]
    assert counts[1]["unchanged"] == 92
    assert not list((tmp_path / "staging").rglob("*.parquet"))


@pytest.mark.slow
def test_more_shards_than_airflow_maps_over_are_refused_with_the_size_that_would_do(
    environment: dict[str, str], tmp_path: Path
) -> None:
    # Without a database: it is set up by the first run.
    environment |= {"AIRFLOW__CORE__MAX_MAP_LENGTH": "3", "AIRFLOW_HOME": str(tmp_path / "airflow")}
    pairs = [
        *("source.name=sample", "embedding.service=hashing", "ingest.shard_passages=10"),
        f"store.lancedb.uri={tmp_path / 'lancedb'}",
        f"ingest.staging={tmp_path / 'staging'}",
    ]
    command = [sys.executable, "dags", *(f"--set={pair}" for pair in pairs)]

    done = subprocess.run(command, env=environment, cwd=ROOT, capture_output=True, text=True, timeout=180)

    assert done.returncode == 2
    assert "Setting up Airflow's database" in done.stderr
    assert "11 shards are more than Airflow maps a task over" in done.stderr
    assert "set ingest.shard_passages to 36 or more" in done.stderr


def test_wrong_settings_are_refused_before_airflow_starts(environment: dict[str, str]) -> None:
    done = subprocess.run(
        [sys.executable, "dags", "--set", "store.name=lancdb"],
        env=environment,
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=60,
    )

    assert done.returncode == 2
    assert "did you mean 'lancedb'?" in done.stderr


@pytest.mark.parametrize(
    ("file", "column", "said"),
    [("absent.csv", "context", "absent.csv' matches no file"), ("books.csv", "body", "has no column 'body'")],
)
def test_a_wrong_file_or_column_is_told_in_one_line_before_airflow_starts(
    environment: dict[str, str], tmp_path: Path, file: str, column: str, said: str
) -> None:
    (tmp_path / "books.csv").write_text("context,title\nSteel is hard.,Steel\n")
    pairs = ["source.name=files", f"source.path={tmp_path / file}", f"source.columns.text={column}"]
    pairs += ["source.columns.question=", "source.columns.question_id=", f"ingest.staging={tmp_path / 'staging'}"]

    done = subprocess.run(
        [sys.executable, "dags", *(f"--set={pair}" for pair in pairs)],
        env=environment | {"AIRFLOW_HOME": str(tmp_path / "airflow")},
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=60,
    )

    assert done.returncode == 1
    (line,) = done.stderr.splitlines()
    assert line.startswith("error: ") and said in line
    assert not (tmp_path / "airflow").exists()  # importing Airflow makes it
    assert not (tmp_path / "staging").exists()
