"""Scale: what 10^3 to 10^7 documents cost to write, index, search and, unchanged, to plan; and in what memory.

    python -m benchmarks.scale --documents 1000 10000 100000 1000000
    python -m benchmarks.scale --documents 10000000 --plan-only

The corpus is synthetic: distinct texts as long as SQuAD's contexts (mean 750 characters), each with a title, an id
and a question, in one parquet file. Vectors are drawn, not computed. One process fills an empty LanceDB store through
the store's nodes, builds its index and searches it, another then plans the unchanged corpus. With --plan-only the
bare client appends the rows, with vectors of 8 dimensions, which planning does not read; only planning is measured.
Seconds are wall and processor time, megabytes the peak resident set, that of the imports included.
"""

import argparse
import json
import math
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from benchmarks.machine import headline

ROWS_AT_ONCE = 20_000
QUERIES = 100
DIMENSION = 384
DIMENSION_NOT_READ = 8

_COMMON = """
import json, resource, sys, time
from pathlib import Path
import numpy as np
import pyarrow as pa
from squadron.runs.plan import plan_run
from squadron.dataflow.vector_space import generation_name
from squadron.dataflow.driver import shared_graph
from squadron.dataflow.vector_space import vector_space
from squadron.generations.catalog import Generations
from squadron.settings.registry import load
from squadron.settings.layers import Layer, resolve

values = dict(pair.split("=", 1) for pair in sys.argv[1:])
settings = resolve([Layer("benchmark", values, Path.cwd())]).settings
graph = shared_graph(settings)
found, drawn = {}, np.random.default_rng(1)

def timed(name, action):
    wall, processor = time.monotonic(), time.process_time()
    value = action()
    found[name] = [time.monotonic() - wall, time.process_time() - processor]
    return value

def unit_vectors(count):
    vectors = drawn.standard_normal((count, graph.value("dimension")), np.float32)
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
"""
_FILL = """
generation = generation_name(settings.collection, vector_space(settings))
catalog = Generations(graph)
catalog.begin(settings, generation, vector_space=vector_space(settings), planned_by="filled")
generation_table = graph.value("generation_table", generation=generation)

def read():
    waiting = []
    for rows in load("sources", settings.source.name).read_rows(settings.source):
        waiting.append(graph.value("documents", rows=rows))
        if sum(table.num_rows for table in waiting) >= ROWS_AT_ONCE:
            yield pa.concat_tables(waiting)
            waiting = []
    if waiting:
        yield pa.concat_tables(waiting)

def passages():
    for documents in read():
        ids = [f"{digest.hex()}00000001" for digest in documents["digest"].to_pylist()]
        table = documents.drop_columns(["digest"]).add_column(0, "id", pa.array(ids))
        table = table.append_column("ordinal", pa.array(np.zeros(len(ids), np.int32)))
        yield table.append_column("tokens", pa.array(np.ones(len(ids), np.int32))), unit_vectors(len(ids))

def write():
    for table, vectors in passages():
        graph.value("rows_written", passages=table, embeddings=vectors, generation_table=generation_table)

def append():
    for table, vectors in passages():
        records = graph.value("records", passages=table, embeddings=vectors)
        yield from records.select(generation_table.schema.names).cast(generation_table.schema).to_batches()

if PLAN_ONLY:
    generation_table.add(pa.RecordBatchReader.from_batches(generation_table.schema, append()))
else:
    timed("write", write)
    timed("index", lambda: graph.value("index_built", generation_table=generation_table))
    asked = {"query_vectors": unit_vectors(QUERIES), "top_k": 10, "filter": {}}
    timed("search", lambda: graph.value("matches", generation_table=generation_table, **asked))
rows = graph.value("row_count", generation_table=generation_table)
catalog.change(generation, rows=rows, documents=rows)
"""
_PLAN = """
plan = timed("plan", lambda: plan_run(settings, "unchanged"))
assert plan.to_embed == plan.deleted == 0, plan
assert plan.documents == plan.unchanged == DOCUMENTS, plan
"""
_REPORT = """
print(json.dumps(found | {"megabytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024}))
"""


def main() -> None:
    """Print a table, and one JSON object per size on stderr."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--documents", type=int, nargs="+", default=[1_000, 10_000, 100_000, 1_000_000])
    parser.add_argument("--folder", help="where corpus and store are; temporary if not given")
    parser.add_argument("--plan-only", action="store_true", help="measure planning only")
    arguments = parser.parse_args()
    print(headline())
    names = ("write s", "index s", "ms/query", "MB", "plan s", "CPU s", "plan MB")
    print(f"{'documents':>10}" + "".join(f"{name:>10}" for name in names))
    for documents in arguments.documents:
        with tempfile.TemporaryDirectory(dir=arguments.folder) as folder:
            filled, planned = _measured(documents, Path(folder), arguments.plan_only)
        seconds = {step: filled.get(step, [math.nan])[0] for step in ("write", "index", "search")}
        figures = [seconds["write"], seconds["index"], 1000 * seconds["search"] / QUERIES, filled["megabytes"]]
        figures += [*planned["plan"], planned["megabytes"]]
        print(f"{documents:>10,}" + "".join(f"{figure:>10,.1f}" for figure in figures), flush=True)
        print(json.dumps({"documents": documents, "fill": filled, "plan": planned}), file=sys.stderr)


def write_corpus(path: Path, documents: int) -> None:
    """Texts of random words, lengths log-normal around those of SQuAD's contexts."""
    drawn = np.random.default_rng(1)
    letters = np.array(list("abcdefghijklmnopqrstuvwxyz"))
    words = ["".join(drawn.choice(letters, size=length)) for length in drawn.integers(2, 11, 20_000)]
    prose = " ".join(drawn.choice(words, size=400_000))
    schema = pa.schema([(name, pa.string()) for name in ("id", "title", "context", "question")])
    with pq.ParquetWriter(path, schema) as writer:
        for first in range(0, documents, ROWS_AT_ONCE):
            numbers = range(first, min(first + ROWS_AT_ONCE, documents))
            lengths = np.clip(drawn.lognormal(6.55, 0.35, len(numbers)), 150, 3_700).astype(int)
            starts = drawn.integers(0, len(prose) - 4_000, len(numbers))
            texts = [prose[start : start + length] for start, length in zip(starts, lengths, strict=True)]
            columns = {
                "id": [f"question {number}" for number in numbers],
                "title": [f"Title {number // 40}" for number in numbers],
                "context": [f"{number} {text}" for number, text in zip(numbers, texts, strict=True)],
                "question": [
                    f"What about {number} and {text[:40]}?" for number, text in zip(numbers, texts, strict=True)
                ],
            }
            writer.write_table(pa.table(columns, schema=schema))


def _measured(documents: int, folder: Path, plan_only: bool) -> tuple[dict[str, list[float]], dict[str, list[float]]]:
    write_corpus(folder / "corpus.parquet", documents)
    values = {
        "collection": "scale",
        "source.name": "files",
        "source.path": folder / "corpus.parquet",
        "embedding.service": "hashing",
        "embedding.hashing.dimension": DIMENSION_NOT_READ if plan_only else DIMENSION,
        "store.lancedb.uri": folder / "lancedb",
        "ingest.staging": folder / "staging",
        "cache.path": folder / "cache",
    }
    constants = f"ROWS_AT_ONCE, QUERIES, DOCUMENTS, PLAN_ONLY = {ROWS_AT_ONCE}, {QUERIES}, {documents}, {plan_only}\n"
    return _run(_COMMON + constants + _FILL + _REPORT, values), _run(_COMMON + constants + _PLAN + _REPORT, values)


def _run(script: str, values: dict[str, object]) -> dict[str, list[float]]:
    pairs = [f"{key}={value}" for key, value in values.items()]
    done = subprocess.run([sys.executable, "-c", script, *pairs], capture_output=True, text=True, check=False)
    if done.returncode:
        sys.exit(done.stderr)
    found: dict[str, list[float]] = json.loads(done.stdout)
    return found


if __name__ == "__main__":
    main()
