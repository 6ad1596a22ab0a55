"""Runs the DAG `vector_ingest` once, in this process, and shows it: `python dags [--set KEY=VALUE]...`.

For a first look and for the Makefile: the same DAG and tasks as under a scheduler, by Airflow's `dag.test()`. It has
a database of its own, where a scheduler beside it would take its tasks. Variables and Connections come from the
environment (AIRFLOW_VAR_..., AIRFLOW_CONN_...) or a secrets backend; or set AIRFLOW_HOME to that of a stopped Airflow.
"""

from __future__ import annotations

import argparse
import json
import logging
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from squadron.runs.report import RunReport
    from squadron.settings.schema import Settings

STARTED = time.monotonic()
ROOT = Path(__file__).resolve().parents[1]
AIRFLOW_SETTINGS = {
    "AIRFLOW_HOME": str(ROOT / ".squadron" / "airflow_ingest"),
    "AIRFLOW__CORE__DAGS_FOLDER": str(ROOT / "dags"),
    "AIRFLOW__CORE__PLUGINS_FOLDER": str(ROOT / "plugins"),
    "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
    "AIRFLOW__LOGGING__LOGGING_LEVEL": "CRITICAL",
}


def main() -> int:
    """Run the DAG, print what it did and what a search finds; 0 done, 1 failed, 2 bad settings, 130 interrupted."""
    parser = argparse.ArgumentParser(prog="python dags", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="KEY=VALUE",
        help="override a setting; several, with spaces between",
    )
    parser.add_argument("--json", action="store_true", help="print one JSON object on stdout")
    arguments = parser.parse_args()
    for name, value in AIRFLOW_SETTINGS.items():
        os.environ.setdefault(name, value)
    os.environ.setdefault("SQUADRON_ALLOWED_PATHS", "*")  # who runs this has a shell here
    from squadron.errors import SettingsError, SquadronError
    from squadron.terminal import interruption

    try:
        conf = _run_conf(arguments.set)
        report = _with_total(_dag_run(conf))
        if arguments.json:
            print(json.dumps(report, ensure_ascii=False))
        else:
            _show(report, conf)
    except SquadronError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2 if isinstance(error, SettingsError) else 1
    except KeyboardInterrupt:
        interruption.end_process()
    return 0


def _run_conf(pairs: list[str]) -> dict[str, Any]:
    """The run's conf; wrong settings, and files without the wanted columns, are refused here, before Airflow starts."""
    from squadron.settings.assignments import assignments
    from squadron.settings.layers import Layer, resolve
    from squadron.settings.schema import value_of

    resolved = resolve([Layer("--set", assignments(pairs), Path.cwd())])
    settings = resolved.settings
    _check_files(settings)
    print("Starting Airflow in this process; it takes some seconds ...", file=sys.stderr, flush=True)
    given = {key: value_of(settings, key) for key, layer in resolved.origins.items() if layer == "--set"}
    # As the form gives them: of the right type, lists and not tuples, and null inherits.
    conf = {key: list(v) if isinstance(v, tuple) else v for key, v in given.items() if v is not None}
    if settings.source.name == "squad" and not settings.source.path and not _squad_can_be_read():
        _warn(
            "The Hugging Face Hub cannot be reached, so SQuAD cannot be downloaded: the bundled sample is ingested "
            "instead, into a collection of its own. To ask it: make search COLLECTION=sample Q='...'. "
            "To ingest a file: make ingest SOURCE=path.parquet"
        )
        conf |= {"collection": "sample", "source.name": "sample"}
    return conf


def _check_files(settings: Settings) -> None:
    """Read the first rows of files: raises SourceError for a wrong path, format or column."""
    if settings.source.name == "files":
        from squadron.sources.files_source import read_rows

        next(read_rows(settings.source), None)


def _squad_can_be_read() -> bool:
    """Whether SQuAD can be read: the hub answers, or the data set is in the local cache."""
    from huggingface_hub import try_to_load_from_cache

    from squadron.process.hub import Hub, hub_state

    if isinstance(try_to_load_from_cache("rajpurkar/squad", "README.md", repo_type="dataset"), str):
        return True
    return hub_state() is Hub.ANSWERS


def _dag_run(conf: dict[str, Any]) -> RunReport:
    """The report of a run of the DAG. Raises what the first task that failed raised."""
    from airflow.models.xcom import XComModel
    from airflow.utils.session import create_session

    from squadron.terminal.tables import shown_progress

    sys.path.insert(0, str(ROOT / "dags"))
    from vector_ingest import squad_dag as vector_ingest_dag

    _migrate_if_new()
    vector_ingest_dag.deadline = None  # a person is waiting; and dag.test() fails on deadlines, which it does not store
    failures: list[BaseException] = []
    for task in vector_ingest_dag.tasks:
        _without_retries(task, failures)
    logging.getLogger("squadron.dag").setLevel(logging.WARNING)  # all the settings: for a task's log
    with shown_progress():
        run = vector_ingest_dag.test(run_conf=conf)
    if failures:
        raise failures[0]
    with create_session() as session:
        query = XComModel.get_many(run_id=run.run_id, key="return_value", task_ids="promote")
        report: RunReport = XComModel.deserialize_value(session.scalars(query).one())
        return report


def _with_total(report: RunReport) -> RunReport:
    """The report, whose seconds name what Airflow took beside the stages, and the total since this process began."""
    total = time.monotonic() - STARTED
    airflow = total - sum(report["seconds"].values())
    report["seconds"] |= {"airflow": round(airflow, 3), "total": round(total, 3)}
    return report


def _migrate_if_new() -> None:
    """Set up Airflow's database, where there is none yet."""
    import sqlalchemy
    from airflow import settings

    if not sqlalchemy.inspect(settings.engine).has_table("dag_run"):
        print("Setting up Airflow's database, this once ...", file=sys.stderr, flush=True)
        command = [sys.executable, "-m", "airflow", "db", "migrate"]
        done = subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603 - a fixed command
        if done.returncode:
            sys.exit(f"error: airflow db migrate failed:\n{done.stdout}{done.stderr}")


def _without_retries(task: Any, failures: list[BaseException]) -> None:
    """A person is waiting: say at once what is wrong."""
    options = getattr(task, "partial_kwargs", None)
    remember = [lambda context: failures.append(context["exception"])]
    if options is None:
        task.retries, task.on_failure_callback = 0, remember
    else:
        options |= {"retries": 0, "on_failure_callback": remember}


def _show(report: RunReport, conf: dict[str, Any]) -> None:
    """Print the report, and the answer of one search."""
    from airflow.models import Connection
    from rich.console import Console

    from squadron.generations import search as searching
    from squadron.settings.connections import with_address
    from squadron.settings.layers import Layer, resolve
    from squadron.terminal import tables as terminal

    console = Console()
    terminal.show_report(report, console)
    if report["example_question"]:
        resolved = resolve([Layer("run", conf, ROOT)]).settings
        settings = with_address(resolved, Connection.get_connection_from_secrets)
        console.print("\n[dim]one search:[/dim]")
        found = searching.search(settings, report["example_question"], top_k=3)
        terminal.show_matches(report["example_question"], found, console)


def _warn(message: str) -> None:
    print(f"\033[33m{message}\033[0m" if sys.stderr.isatty() else message, file=sys.stderr)


if __name__ == "__main__":
    sys.exit(main())
