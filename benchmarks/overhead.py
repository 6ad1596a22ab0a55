"""Overhead: a whole first `ingest` over the bare engine on the same texts, each in a process of its own.

    python -m benchmarks.overhead --parquet train.parquet --documents 2000 --rounds 3

`ingest` is the command line into an empty store: start, plan, embed, write, index, evaluate, promote. The bare engine
is the shortest script that makes the same vectors: it imports the engine, loads the model, reads the texts that the
ingest would embed from a file and embeds them, passages in one call, questions in another; `encode` is these calls
alone, with the model loaded. An evaluation embeds a thousand questions: ingest and bare engine are run with and
without them, and compared with and without.

`bare job` is the least that whoever does all of it must do, in one script without a plan, checks or a cache: import the
store and the engine, embed the passages ready-cut, write the rows, embed the questions and find their neighbours. What
an ingest takes beyond it is what Squadron itself costs.

Rounds are interleaved and medians given; on a machine that is not quiet the processor time is the steadier figure.
"""

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
from collections import defaultdict

import pyarrow.parquet as pq

from benchmarks.machine import headline

_TEXTS = """
import sys
from pathlib import Path
import pyarrow as pa, pyarrow.parquet as pq
from squadron.staging import shards as staging
from squadron.runs.plan import plan_run
from squadron.dataflow.driver import shared_graph
from squadron.settings.layers import Layer, resolve

values = dict(pair.split("=", 1) for pair in sys.argv[2:])
settings = resolve([Layer("benchmark", values, Path.cwd())]).settings
plan = plan_run(settings, "texts")
graph = shared_graph(settings)
passages = pa.concat_tables(staging.read_table(shard.path) for shard in plan.shards)
passages = passages.append_column("embedded", pa.array(graph.value("embedding_texts", passages=passages)))
pq.write_table(passages, f"{sys.argv[1]}/texts.parquet")
pq.write_table(staging.read_table(f"{plan.folder}/questions.parquet"), f"{sys.argv[1]}/questions.parquet")
"""
_BARE = """
import json, sys, time
from pathlib import Path
import pyarrow.parquet as pq
from squadron.settings.embedding_sections import SentenceTransformersSettings
from squadron.embeddings.local.engine import load_engine
from squadron.embeddings.sentence_transformers_embeddings import model_folder

settings = SentenceTransformersSettings()
engine = load_engine(settings, model_folder(settings))
columns = [("texts", "embedded"), ("questions", "question")][: int(sys.argv[2])]
texts = [pq.read_table(f"{sys.argv[1]}/{name}.parquet")[column].to_pylist() for name, column in columns]
before, processor = time.monotonic(), time.process_time()
for part in texts:
    engine.encode(part)
print(json.dumps({"wall": time.monotonic() - before, "processor": time.process_time() - processor}))
"""
_JOB = """
import sys
import lancedb
import numpy as np
import pyarrow as pa, pyarrow.parquet as pq
from squadron.settings.embedding_sections import SentenceTransformersSettings
from squadron.embeddings.local.engine import load_engine
from squadron.embeddings.sentence_transformers_embeddings import model_folder

settings = SentenceTransformersSettings()
engine = load_engine(settings, model_folder(settings))
passages = pq.read_table(f"{sys.argv[1]}/texts.parquet")
vectors = engine.encode(passages["embedded"].to_pylist())
column = pa.FixedSizeListArray.from_arrays(pa.array(vectors.ravel()), vectors.shape[1])
table = lancedb.connect(sys.argv[2]).create_table("rows", passages.append_column("vector", column))
asked = engine.encode(pq.read_table(f"{sys.argv[1]}/questions.parquet")["question"].to_pylist())
best = np.argpartition(asked @ vectors.T, -10, axis=1)[:, -10:]
print(table.count_rows())
"""
# The bare engine's two runs, and how many of the files of texts each embeds.
_BARE_RUNS = {"bare engine": 2, "bare engine, no questions": 1}
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
    print(headline())
    with tempfile.TemporaryDirectory() as folder:
        common = ["source.name=files", f"source.path={arguments.parquet}", f"source.limit={arguments.documents}"]
        subprocess.run([sys.executable, "-c", _TEXTS, folder, *common, *_places(folder, "texts")], check=True)
        passages = pq.read_metadata(f"{folder}/texts.parquet").num_rows
        print(f"{passages:,} passages, medians of {arguments.rounds} rounds")
        found: dict[str, list[dict[str, float]]] = defaultdict(list)
        for number in range(arguments.rounds):
            for name, times in _round(number, folder, common):
                found[name].append(times)
                print(json.dumps({"round": number, "process": name, **times}), file=sys.stderr)
    _print({name: {key: _median(rounds, key) for key in rounds[0]} for name, rounds in found.items()})


def _round(number: int, folder: str, common: list[str]) -> list[tuple[str, dict[str, float]]]:
    """Each process once, in an order that turns from round to round."""
    whole = [sys.executable, "-m", "squadron", "ingest", "--json"]
    runs: list[tuple[str, list[str]]] = []
    for name, more in (("ingest", []), ("ingest, no questions", ["evaluation.max_questions=0"])):
        places = _places(folder, f"{number}-{len(runs)}")
        runs.append((name, [*whole, *(f"--set={pair}" for pair in [*common, *more, *places])]))
    runs.append(("bare job", [sys.executable, "-c", _JOB, folder, f"{folder}/{number}-job"]))
    runs += [(name, [sys.executable, "-c", _BARE, folder, str(parts)]) for name, parts in _BARE_RUNS.items()]
    turned = runs[number % len(runs) :] + runs[: number % len(runs)]
    times = []
    for name, command in turned:
        measured = _measured(command)
        times.append((name, measured["times"]))
        if name in _BARE_RUNS:
            times.append((name.replace("bare engine", "encode alone"), measured["output"]))
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
    print(f"{'':<27}{'wall s':>9}{'÷ bare':>8}{'÷ job':>8}{'CPU s':>9}{'÷ bare':>8}{'÷ job':>8}{'peak MB':>9}")
    job = medians["bare job"]
    for name, times in medians.items():
        bare = medians["bare engine, no questions" if name.endswith("no questions") else "bare engine"]
        cells = [
            f"{times[kind]:>9.2f}{times[kind] / bare[kind]:>8.2f}{times[kind] / job[kind]:>8.2f}"
            for kind in ("wall", "processor")
        ]
        peak = f"{times['megabytes']:>9,.0f}" if "megabytes" in times else ""
        print(f"{name:<27}{''.join(cells)}{peak}")


if __name__ == "__main__":
    main()
