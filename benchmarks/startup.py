"""Start-up: whole-process seconds of each command, against a bare `import lancedb` in the same rounds.

    python -m benchmarks.startup --parquet train.parquet --documents 2000 --rounds 9 --json startup.json

Commands take turns, so that what else the machine does meets all of them. Beside the seconds on the clock stand those
of processor time, which a busy machine stretches less. `changed` is an ingest after one document in a hundred has
changed, each time into a copy of the same store.
"""

import argparse
import json
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from benchmarks.machine import about

PACKAGES = ("lancedb", "apache-hamilton", "pandas", "pyarrow", "pydantic", "openvino", "typer")
BARS_SECONDS = {"help": 0.5, "unchanged": 1.5, "changed": 2.5, "search": 1.0}
Command = list[str]


def main() -> None:
    """Print a table, and write one JSON object if asked to."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--parquet", required=True, help="a file with the columns id, title, context and question")
    parser.add_argument("--documents", type=int, default=2000)
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--json", help="where to write the figures")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        measured = _measured(Path(arguments.parquet), Path(folder), arguments.documents, arguments.rounds)
    found = about(PACKAGES) | {"documents": arguments.documents, "rounds": arguments.rounds, "commands": measured}
    print(f"{found['processor']}, {found['cores']} cores, Python {found['python']}, load {found['load']}")
    print(f"{'command':<16} {'median s':>9} {'least s':>8} {'processor s':>12} {'÷ bare':>7} {'bar s':>6}")
    for name, figures in measured.items():
        print(
            f"{name:<16} {figures['median_seconds']:>9.2f} {figures['least_seconds']:>8.2f} "
            f"{figures['median_processor_seconds']:>12.2f} {figures['ratio']:>7.2f} {BARS_SECONDS.get(name, ''):>6}"
        )
    if arguments.json:
        Path(arguments.json).write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")


def _measured(parquet: Path, folder: Path, documents: int, rounds: int) -> dict[str, dict[str, float]]:
    corpus, changed = _corpora(parquet, folder, documents)
    _run(_ingest(corpus, folder / "store"))
    commands: dict[str, Command] = {
        "import lancedb": [sys.executable, "-c", "import lancedb"],
        "help": _squadron("--help"),
        "config": _squadron("config", *_places(corpus, folder / "store")),
        "unchanged": _ingest(corpus, folder / "store"),
        "search": _squadron("search", "How are stops distinguished?", *_places(corpus, folder / "store")),
        "changed": _ingest(changed, folder / "copy"),
    }
    seconds: dict[str, list[tuple[float, float]]] = {name: [] for name in commands}
    for _ in range(rounds):
        for name, command in commands.items():
            if name == "changed":
                shutil.rmtree(folder / "copy", ignore_errors=True)
                shutil.copytree(folder / "store", folder / "copy")
            seconds[name].append(_run(command))
    bare = statistics.median(clock for clock, _ in seconds["import lancedb"])
    return {name: _figures(runs, bare) for name, runs in seconds.items()}


def _figures(runs: list[tuple[float, float]], bare: float) -> dict[str, float]:
    clock, processor = zip(*runs, strict=True)
    return {
        "median_seconds": round(statistics.median(clock), 3),
        "least_seconds": round(min(clock), 3),
        "median_processor_seconds": round(statistics.median(processor), 3),
        "least_processor_seconds": round(min(processor), 3),
        "ratio": round(statistics.median(clock) / bare, 3),
    }


def _run(command: Command) -> tuple[float, float]:
    """Seconds on the clock and of processor time, of the whole process."""
    before, started = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    clock, after = time.perf_counter() - started, resource.getrusage(resource.RUSAGE_CHILDREN)
    if done.returncode:
        sys.exit(done.stderr)
    return clock, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def _squadron(*arguments: str) -> Command:
    return [sys.executable, "-m", "squadron", *arguments]


def _ingest(corpus: Path, store: Path) -> Command:
    return _squadron("ingest", *_places(corpus, store))


def _places(corpus: Path, store: Path) -> list[str]:
    pairs = {
        "collection": "startup",
        "source.name": "files",
        "source.path": corpus,
        "store.lancedb.uri": store / "lancedb",
        "ingest.staging": store / "staging",
        "cache.path": store / "cache",
    }
    return [f"--set={key}={value}" for key, value in pairs.items()]


def _corpora(parquet: Path, folder: Path, documents: int) -> tuple[Path, Path]:
    """The rows of the first so many contexts, and the same with one context in a hundred changed."""
    rows = pq.read_table(parquet, columns=["id", "title", "context", "question"])
    chosen = pc.unique(rows["context"])[:documents]
    rows = rows.filter(pc.is_in(rows["context"], chosen))
    old = chosen[::100].to_pylist()
    new = {text: f"{text} This was added." for text in old}
    contexts = pa.array([new.get(text, text) for text in rows["context"].to_pylist()], pa.string())
    pq.write_table(rows, folder / "corpus.parquet")
    pq.write_table(rows.set_column(2, "context", contexts), folder / "changed.parquet")
    return folder / "corpus.parquet", folder / "changed.parquet"


if __name__ == "__main__":
    main()
