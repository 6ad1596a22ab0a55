"""Overhead: a whole first `ingest` over the bare engine on the same texts, each in a process of its own.

    python benchmarks/overhead.py --parquet train.parquet --documents 2000 --rounds 3

`ingest` is the command line into an empty store: start, plan, embed, write, index, evaluate, promote. The bare engine
is the shortest script that makes the same vectors: it imports the engine, loads the model, reads the passages that the
ingest would embed from one file and embeds them in one call; `encode` is that call alone, with the model loaded. An
evaluation embeds questions, which a bare engine does not: the ingest is run with and without. Rounds are interleaved
and medians given; on a machine that is not quiet the processor time is the steadier figure.
"""

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
from collections import defaultdict

import pyarrow.parquet as pq

_TEXTS = """
import sys
from pathlib import Path
import pyarrow as pa, pyarrow.parquet as pq
from pipelines import staging, planning, steps
from pipelines.catalog import shared_graph
from pipelines.resolution import Layer, resolve

values = dict(pair.split("=", 1) for pair in sys.argv[2:])
settings = resolve([Layer("benchmark", values, Path.cwd())]).settings
plan = planning.plan(settings, "texts")
graph = shared_graph(settings)
texts = [t for shard in plan.shards for t in graph.value("embedding_texts", passages=staging.read_table(shard.path))]
pq.write_table(pa.table({"text": texts}), sys.argv[1])
"""
_BARE = """
import json, sys, time
from pathlib import Path
import pyarrow.parquet as pq
from pipelines.embedding_settings import SentenceTransformersSettings
from pipelines.embeddings.engine import load_engine
from pipelines.embeddings.sentence_transformers_embeddings import model_folder

settings = SentenceTransformersSettings()
engine = load_engine(settings, model_folder(settings))
texts = pq.read_table(sys.argv[1])["text"].to_pylist()
before, processor = time.monotonic(), time.process_time()
engine.encode(texts)
print(json.dumps({"wall": time.monotonic() - before, "processor": time.process_time() - processor}))
"""
_MEASURED = """
import json, resource, subprocess, sys, time
before = time.monotonic()
done = subprocess.run(sys.argv[1:], capture_output=True, text=True)
wall = time.monotonic() - before
used = resource.getrusage(resource.RUSAGE_CHILDREN)
if done.returncode:
    sys.exit(done.stderr)
times = {"wall": wall, "processor": used.ru_utime + used.ru_stime, "megabytes": used.ru_maxrss / 1024}
print(json.dumps({"times": times, "output": json.loads(done.stdout)}))
"""


def main() -> None:
    """Print the medians of all rounds and their ratios, and one JSON object per process on stderr."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--parquet", required=True, help="a file with the columns title, context, question and id")
    parser.add_argument("--documents", type=int, default=2000)
    parser.add_argument("--rounds", type=int, default=3)
    arguments = parser.parse_args()
    print(f"{platform.processor() or platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}")
    with tempfile.TemporaryDirectory() as folder:
        texts = f"{folder}/texts.parquet"
        common = ["source.name=files", f"source.path={arguments.parquet}", f"source.limit={arguments.documents}"]
        subprocess.run([sys.executable, "-c", _TEXTS, texts, *common, *_places(folder, "texts")], check=True)
        print(f"{pq.read_metadata(texts).num_rows:,} passages, medians of {arguments.rounds} rounds")
        found: dict[str, list[dict[str, float]]] = defaultdict(list)
        for number in range(arguments.rounds):
            for name, times in _round(number, folder, texts, common):
                found[name].append(times)
                print(json.dumps({"round": number, "process": name, **times}), file=sys.stderr)
    _print({name: {key: _median(rounds, key) for key in rounds[0]} for name, rounds in found.items()})


def _round(number: int, folder: str, texts: str, common: list[str]) -> list[tuple[str, dict[str, float]]]:
    """Each process once, in an order that turns from round to round."""
    bare = [sys.executable, "-c", _BARE, texts]
    whole = [sys.executable, "-m", "pipelines", "ingest", "--json"]
    runs: list[tuple[str, list[str]]] = []
    for name, more in (("ingest", []), ("ingest, no questions", ["evaluation.max_questions=0"])):
        places = _places(folder, f"{number}-{len(runs)}")
        runs.append((name, [*whole, *(f"--set={pair}" for pair in [*common, *more, *places])]))
    runs.append(("bare engine", bare))
    turned = runs[number % 3 :] + runs[: number % 3]
    times = []
    for name, command in turned:
        measured = _measured(command)
        times.append((name, measured["times"]))
        if name == "bare engine":
            times.append(("encode alone", measured["output"]))
    return times


def _measured(command: list[str]) -> dict[str, dict[str, float]]:
    done = subprocess.run([sys.executable, "-c", _MEASURED, *command], capture_output=True, text=True, check=False)
    if done.returncode:
        sys.exit(done.stderr)
    measured: dict[str, dict[str, float]] = json.loads(done.stdout)
    return measured


def _places(folder: str, run: str) -> list[str]:
    names = {"store.lancedb.uri": "lancedb", "ingest.staging": "staging", "cache.path": "cache"}
    return ["collection=overhead", *(f"{key}={folder}/{run}/{name}" for key, name in names.items())]


def _median(rounds: list[dict[str, float]], key: str) -> float:
    return statistics.median(times[key] for times in rounds)


def _print(medians: dict[str, dict[str, float]]) -> None:
    print(f"{'':<22}{'wall s':>9}{'÷ bare':>8}{'÷ encode':>10}{'CPU s':>9}{'÷ bare':>8}{'÷ encode':>10}{'peak MB':>9}")
    bare, encode = medians["bare engine"], medians["encode alone"]
    for name, times in medians.items():
        cells = [
            f"{times[kind]:>9.2f}{times[kind] / bare[kind]:>8.2f}{times[kind] / encode[kind]:>10.2f}"
            for kind in ("wall", "processor")
        ]
        peak = f"{times['megabytes']:>9,.0f}" if "megabytes" in times else ""
        print(f"{name:<22}{''.join(cells)}{peak}")


if __name__ == "__main__":
    main()
