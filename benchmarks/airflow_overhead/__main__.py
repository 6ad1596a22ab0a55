"""What Airflow costs: the DAG on CeleryExecutor against the bare command line on the same work; one worker, then two.

    python -m benchmarks.airflow_overhead --parquet train.parquet [--rounds 3] [--json airflow.json]

Airflow is what docker-compose.yaml says, natively: a Postgres and a Redis of the benchmark's own, one task at a time on
each worker. First one shard of the usual size and model is built by both. Then rounds take turns: nothing has changed;
one document has. A shard of one passage is what a shard costs beside its passages: process, imports, model. Last, the
same shards on one worker and on two: with a service that answers after 200 ms, and with the local model, for which
workers on one machine only divide its cores: there each is given one.
"""

import argparse
import json
import os
import statistics
import sys
import tempfile
from collections import defaultdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from benchmarks.airflow_overhead.measuring import (
    STAGES,
    Run,
    command_seconds,
    dag_run,
    peak_megabytes,
    pin,
    slow_service,
)
from benchmarks.machine import about
from tests.dags import celery_airflow
from tests.dags.celery_airflow import WORKERS, CeleryAirflow

PACKAGES = ("apache-airflow", "apache-airflow-providers-celery", "celery", "lancedb", "openvino")
LATENCY_SECONDS = 0.2
SHARDS = 4
Figures = dict[str, Any]


def main() -> None:
    """Print the tables, and write one JSON object if asked to."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--parquet", required=True, type=Path, help="with the columns id, title, context, question")
    parser.add_argument("--documents", type=int, default=12_000, help="of the corpus: less than a shard of passages")
    parser.add_argument("--rounds", type=int, default=3, help="of runs that change nothing, or one document")
    parser.add_argument("--json", type=Path, help="where to write the figures")
    given = parser.parse_args()
    if lack := celery_airflow.missing():
        sys.exit(lack)
    os.environ |= {"OPENAI_API_KEY": "of-the-benchmark"}
    with tempfile.TemporaryDirectory() as name:
        figures = about(PACKAGES) | _measured(Path(name), given.parquet.resolve(), given.documents, given.rounds)
    _show(figures)
    if given.json:
        given.json.write_text(json.dumps(figures, indent=1) + "\n", encoding="utf-8")


def _measured(folder: Path, parquet: Path, documents: int, rounds: int) -> Figures:
    first, second = WORKERS
    with celery_airflow.backends() as backends, CeleryAirflow(folder / "airflow", backends, (first,)) as airflow:
        airflow.wait_for_worker(first)
        overhead = _overhead(airflow, folder, parquet, documents, rounds)
        with slow_service(LATENCY_SECONDS) as url:
            alone = [_scaling(airflow, folder, parquet, "one worker", documents * 2 // 3, _remote(url))]
            local = [_scaling(airflow, folder, parquet, "one worker, all cores", documents // 5, {})]
            pin(airflow.process_of(first), 0)
            local.append(_scaling(airflow, folder, parquet, "one worker, one core", documents // 5, {}))
            airflow.start_worker(second)
            both = [_scaling(airflow, folder, parquet, "two workers", documents * 2 // 3, _remote(url))]
            pin(airflow.process_of(second), 1)
            local.append(_scaling(airflow, folder, parquet, "two workers, one core each", documents // 5, {}))
    return overhead | {"service": alone + both, "local": local}


def _overhead(airflow: CeleryAirflow, folder: Path, parquet: Path, documents: int, rounds: int) -> Figures:
    """The command line and the DAG take turns, each with a store of its own."""
    corpus = _corpus(parquet, folder / "corpus.parquet", documents)
    command, dag = _places(folder / "command", corpus), _places(folder / "dag", corpus)
    _say(f"a first run over {documents} documents, by the command line, then by the DAG")
    built = {"command": command_seconds(command)}
    with peak_megabytes(airflow.process_of(WORKERS[0])) as peak:
        first = dag_run(airflow, dag)
    runs: dict[str, list[Run]] = defaultdict(list)
    commands: dict[str, list[float]] = defaultdict(list)
    for number in range(rounds):
        _say(f"round {number + 1} of {rounds}: nothing changed, one document changed")
        for what in ("unchanged", "changed"):
            if what == "changed":
                _corpus(parquet, corpus, documents, f"Added in round {number}.")
            commands[what].append(command_seconds(command))
            runs[what].append(dag_run(airflow, dag))
    return {
        "documents": documents,
        "rounds": rounds,
        "first": built | {"dag": first.seconds, "shards": _shards(first), "report": first.report["seconds"]},
        "first_passages": first.report["counts"]["embedded"],
        "peak_megabytes": round(peak[-1]),
        "runs": {what: _compared(commands[what], runs[what]) for what in runs},
    }


def _compared(commands: list[float], runs: list[Run]) -> Figures:
    return {
        "command": statistics.median(commands),
        "dag": statistics.median(run.seconds for run in runs),
        "tasks": {name: _stage(runs, name) for name in STAGES if runs[0].named(name)},
    }


def _stage(runs: list[Run], name: str) -> Figures:
    """Medians of a task: it waited for the scheduler and the queue, its process began, it worked."""
    waited, taken, worked = [], [], []
    for run in runs:
        (task,) = run.named(name)
        before = max((other.end for other in run.tasks if other.end <= task.begin), default=0.0)
        waited.append(task.begin - before)
        taken.append(task.seconds)
        own = task.work_seconds if task.work_seconds is not None else run.report["seconds"]["ingest"]
        worked.append(own)
    return {
        "waited": statistics.median(waited),
        "seconds": statistics.median(taken),
        "work": statistics.median(worked),
    }


def _scaling(
    airflow: CeleryAirflow, folder: Path, parquet: Path, name: str, documents: int, more: dict[str, Any]
) -> Figures:
    """A first run in shards of the same size."""
    place = folder / f"{name} {'service' if more else 'local'}".replace(" ", "_").replace(",", "")
    place.mkdir()
    _say(f"{SHARDS} shards of {documents} documents: {name}, {'a service' if more else 'the local model'}")
    corpus = _corpus(parquet, place / "corpus.parquet", documents)
    size = {"ingest.shard_passages": documents * 11 // 10 // SHARDS, "evaluation.max_questions": 50}
    run = dag_run(airflow, _places(place, corpus) | size | more)
    return {
        "workers": name,
        "dag": run.seconds,
        "shards_seconds": run.shards_seconds,
        "shards": _shards(run),
        "passages": run.report["counts"]["embedded"],
        "device": run.report["device"],
    }


def _shards(run: Run) -> list[Figures]:
    return [{"worker": task.worker, "seconds": task.seconds} for task in run.named("ingest")]


def _remote(url: str) -> dict[str, Any]:
    """64 texts in flight: one worker embeds 320 a second."""
    return {
        "embedding.service": "openai",
        "embedding.openai.base_url": url,
        "embedding.openai.dimensions": 384,
        "embedding.openai.batch_texts": 64,
        "embedding.openai.concurrency": 1,
    }


def _places(folder: Path, corpus: Path) -> dict[str, Any]:
    return {
        "collection": "measured",
        "source.name": "files",
        "source.path": str(corpus),
        "store.lancedb.uri": str(folder / "lancedb"),
        "ingest.staging": str(folder / "staging"),
        "cache.path": str(folder / "cache"),
    }


def _corpus(parquet: Path, path: Path, documents: int, added: str = "") -> Path:
    """The rows of the first so many contexts; of the first context, with something added to it."""
    rows = pq.read_table(parquet, columns=["id", "title", "context", "question"])
    chosen = pc.unique(rows["context"])[:documents]
    rows = rows.filter(pc.is_in(rows["context"], chosen))
    first = pc.equal(rows["context"], chosen[0])
    contexts = pc.if_else(first, pa.scalar(f"{chosen[0].as_py()} {added}".strip()), rows["context"])
    pq.write_table(rows.set_column(2, "context", contexts), path)
    return path


def _show(found: Figures) -> None:
    first, changed = found["first"], found["runs"]["changed"]
    packages = ", ".join(f"{name} {number}" for name, number in found["packages"].items())
    print(f"{found['processor']}, {found['cores']} cores, load {found['load']}, {found['date']}; {packages}\n")
    print(f"{'run':<24} {'command s':>10} {'DAG s':>8} {'more s':>8}")
    print(_line(f"first, {found['first_passages']:,} passages", first))
    for what, figures in found["runs"].items():
        print(_line(what, figures))
    print(f"\n{'task, one changed':<24} {'waited s':>10} {'took s':>8} {'work s':>8}")
    for name, figures in changed["tasks"].items():
        print(f"{name:<24} {figures['waited']:>10.2f} {figures['seconds']:>8.2f} {figures['work']:>8.2f}")
    alone = changed["tasks"]["ingest"]["seconds"]
    whole = max(shard["seconds"] for shard in first["shards"])
    print(f"\na shard of one passage {alone:.1f} s, of {found['first_passages']:,} {whole:.1f} s: {alone / whole:.1%}")
    print(f"its process holds {found['peak_megabytes']} MB at the most")
    for kind in ("service", "local"):
        title = f"{kind}, {SHARDS} shards"
        print(f"\n{title:<28} {'passages/s':>10} {'shards s':>9} {'DAG s':>7} {'÷ first':>8}")
        base = found[kind][0]["shards_seconds"]
        for each in found[kind]:
            seconds = each["shards_seconds"]
            print(
                f"{each['workers']:<28} {each['passages'] / seconds:>10.0f} {seconds:>9.1f} "
                f"{each['dag']:>7.1f} {base / seconds:>8.2f}"
            )


def _line(name: str, figures: Figures) -> str:
    more = figures["dag"] - figures["command"]
    return f"{name:<24} {figures['command']:>10.2f} {figures['dag']:>8.2f} {more:>8.2f}"


def _say(what: str) -> None:
    print(f"{datetime.now(UTC):%H:%M:%S} {what}", file=sys.stderr, flush=True)


if __name__ == "__main__":
    main()
