"""Peers: the same corpus, model and store for every tool, each run its own process: `python -m benchmarks.peers`.

    python -m benchmarks.peers --corpus train.parquet --documents 2000 --rounds 3

`train.parquet` is SQuAD's train split as `datasets.load_dataset("rajpurkar/squad")` has it (columns title, context).
Every round gives each tool, one after the other, an empty folder, and runs it three times: on the corpus, on the same
corpus, and on one of which 1 % has changed. Medians over the rounds; what is in the store is counted by a reader of
its own. The tools' environments are made once (minutes, gigabytes) and kept; their versions are in requirements/. Where
no GPU is wanted, let the installer find torch's CPU build (UV_TORCH_BACKEND=cpu, or PIP_FIND_LINKS). How each tool is
used stands in the first lines of its script in drivers/.
"""

import argparse
import json
import os
import platform
import shutil
import statistics
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from benchmarks.machine import processor
from benchmarks.peers import corpora, tools
from benchmarks.peers.measuring import measured
from benchmarks.peers.reading import verdict
from benchmarks.peers.tools import TOOLS, Tool

DEFAULT = Path(".squadron/benchmarks")
STAGES = ("first", "unchanged", "changed")
Results = list[dict[str, Any]]


def main() -> None:
    """Print a table, and write it with all figures to the folder."""
    arguments = _arguments()
    folder = arguments.folder.absolute()
    chosen = [tool for tool in TOOLS if not arguments.only or tool.name in arguments.only]
    for tool in chosen:
        print(f"environment of {tool.name}", file=sys.stderr)
        tools.install(tool, arguments.environments.absolute())
    documents = corpora.squad(arguments.corpus, arguments.documents)
    stages = {"first": documents, "unchanged": documents, "changed": corpora.after_a_night(documents)}
    for stage, rows in stages.items():
        corpora.write(rows, folder / f"{stage}.jsonl")
    results: Results = []
    for round_number in range(1, arguments.rounds + 1):
        for tool in chosen:
            results += _measured_stages(tool, arguments.environments.absolute(), folder, stages, round_number)
            _write(folder, results, chosen, arguments)
    print((folder / "peers.md").read_text())


def _measured_stages(
    tool: Tool, environments: Path, folder: Path, stages: dict[str, list[corpora.Document]], round_number: int
) -> Results:
    store = folder / tool.name.replace(", ", "-").replace(" ", "-")
    shutil.rmtree(store, ignore_errors=True)
    store.mkdir(parents=True)
    results = []
    for stage, documents in stages.items():
        command = tools.command(tool, environments, str(tools.bundled_model()), folder / f"{stage}.jsonl", store)
        done = measured(command, tools.process_environment(), folder / f"{store.name}.log")
        found = verdict(store, documents)
        result = {"tool": tool.name, "round": round_number, "stage": stage, **vars(done), "load": os.getloadavg()[0]}
        results.append(result | {"verdict": str(found), "faultless": found.faultless, **vars(found)})
        figures = f"{done.seconds:7.1f} s  {done.peak_megabytes:6.0f} MB  exit {done.exit_code}  {found}"
        print(f"{tool.name:22} {stage:10} {figures}", file=sys.stderr)
    return results


def _write(folder: Path, results: Results, chosen: list[Tool], arguments: argparse.Namespace) -> None:
    """Everything so far, as JSON and as a table."""
    load = [row["load"] for row in results]
    machine = {
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "processor": processor(),
        "cores": os.cpu_count(),
        "python": platform.python_version(),
        "load": [min(load), max(load)],
    }
    versions = {tool.name: tools.versions(tool, arguments.environments.absolute()) for tool in chosen}
    everything = {"machine": machine, "documents": arguments.documents, "versions": versions, "runs": results}
    (folder / "peers.json").write_text(json.dumps(everything, indent=1))
    rounds = max(row["round"] for row in results)
    head = (
        f"{arguments.documents} documents, medians of {rounds}. {machine['processor']}, {machine['cores']} cores, "
        f"load {min(load):.1f} to {max(load):.1f}, {datetime.now(UTC):%Y-%m-%d}.\n"
    )
    notes = "\n".join(_note(tool, versions[tool.name]) for tool in chosen)
    (folder / "peers.md").write_text(f"{head}\n{_table(results, chosen)}\n\n{notes}\n")


def _table(results: Results, chosen: list[Tool]) -> str:
    """Seconds by the clock, in brackets of the processors."""
    lines = [
        "| | first run, s (CPU) | unchanged | 1 % changed | peak MB | in the store at last |",
        "|---|---|---|---|---|---|",
    ]
    for tool in chosen:
        if rows := [row for row in results if row["tool"] == tool.name]:
            seconds = " | ".join(
                f"{_median(rows, stage, 'seconds'):.1f} ({_median(rows, stage, 'cpu_seconds'):.1f})" for stage in STAGES
            )
            peak = max(_median(rows, stage, "peak_megabytes") for stage in STAGES)
            lines.append(f"| {tool.name} | {seconds} | {peak:,.0f} | {_state(rows)} |")
    return "\n".join(lines)


def _state(rows: Results) -> str:
    """What the store held after the last stage; and of any stage what was not as it should be."""
    last = dict.fromkeys(f"{row['rows']} rows" for row in rows if row["stage"] == STAGES[-1] and row["faultless"])
    wrong = dict.fromkeys(f"**{row['stage']}: {row['verdict']}**" for row in rows if not row["faultless"])
    failed = dict.fromkeys(f"**{row['stage']}: exit {row['exit_code']}**" for row in rows if row["exit_code"])
    return "; ".join([*(f"right, {found}" for found in last), *wrong, *failed])


def _median(rows: Results, stage: str, name: str) -> float:
    return statistics.median(float(row[name]) for row in rows if row["stage"] == stage)


def _note(tool: Tool, versions: dict[str, str]) -> str:
    listed = ", ".join(f"{name} {version}" for name, version in versions.items())
    return f"- {tool.name}: {tool.remark + '. ' if tool.remark else ''}{listed}"


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--corpus", type=Path, required=True, help="SQuAD as parquet: columns title and context")
    parser.add_argument("--documents", type=int, default=2000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--only", nargs="+", choices=[tool.name for tool in TOOLS], help="these tools alone")
    parser.add_argument("--folder", type=Path, default=DEFAULT / "peers", help="stores, logs, results")
    parser.add_argument("--environments", type=Path, default=DEFAULT / "environments")
    return parser.parse_args()


if __name__ == "__main__":
    main()
