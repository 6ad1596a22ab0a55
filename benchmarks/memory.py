"""Memory: peak resident set of a whole `ingest` over a corpus, and over the same corpus repeated.

    python -m benchmarks.memory --parquet train.parquet --repeat 1 10 --service hashing

Each run is a process of its own, into an empty store. The corpus is repeated with a number put before every text,
so that all documents are distinct. Hashed vectors (384 wide) cost no model: what grows then is the pipeline's own.
"""

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from benchmarks.machine import headline


def main() -> None:
    """Print one JSON object per run, and a table."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--parquet", required=True, help="a file with the columns title and context")
    parser.add_argument("--repeat", type=int, nargs="+", default=[1, 10])
    parser.add_argument("--service", default="hashing")
    arguments = parser.parse_args()
    print(headline())
    print(f"{'documents':>10} {'passages':>10} {'peak MB':>8} {'seconds':>8}")
    for times in arguments.repeat:
        measured = _measured(Path(arguments.parquet), times, arguments.service)
        print(
            f"{measured['documents']:>10,} {measured['passages']:>10,} "
            f"{measured['peak_megabytes']:>8,.0f} {measured['seconds']:>8,.1f}"
        )
        print(json.dumps(measured), file=sys.stderr)


def _measured(parquet: Path, times: int, service: str) -> dict[str, float]:
    with tempfile.TemporaryDirectory() as folder:
        corpus = _repeated(parquet, times, Path(folder, "corpus.parquet"))
        pairs = {
            "collection": "memory",
            "source.name": "files",
            "source.path": str(corpus),
            "embedding.service": service,
            "embedding.hashing.dimension": "384",
            "store.lancedb.uri": f"{folder}/lancedb",
            "ingest.staging": f"{folder}/staging",
        }
        command = [sys.executable, "-m", "squadron", "ingest", "--json"]
        child = (
            "import resource, subprocess, sys\n"
            "done = subprocess.run(sys.argv[1:], capture_output=True, text=True)\n"
            "sys.stderr.write(done.stderr)\n"
            "print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)\n"
            "print(done.stdout)\n"
            "sys.exit(done.returncode)\n"
        )
        command = [sys.executable, "-c", child, *command, *(f"--set={key}={value}" for key, value in pairs.items())]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            sys.exit(done.stderr)
        peak, report = done.stdout.split("\n", 1)
        counted = json.loads(report)
        return {
            "documents": counted["counts"]["documents"],
            "passages": counted["counts"]["passages"],
            "peak_megabytes": int(peak) / 1024,
            "seconds": sum(counted["seconds"].values()),
        }


def _repeated(parquet: Path, times: int, target: Path) -> Path:
    """The distinct contexts of the file, `times` over, each copy with its number before the text."""
    rows = pq.read_table(parquet, columns=["title", "context"]).to_pydict()
    first = {text: title for title, text in reversed(list(zip(rows["title"], rows["context"], strict=True)))}
    schema = pa.schema([("title", pa.string()), ("context", pa.string())])
    with pq.ParquetWriter(target, schema) as writer:
        for copy in range(times):
            texts = [f"{copy}. {text}" for text in first]
            writer.write_table(pa.table({"title": list(first.values()), "context": texts}, schema=schema))
    return target


if __name__ == "__main__":
    main()
