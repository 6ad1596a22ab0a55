"""How fast rows get into Weaviate: our store against its bare client, which is handed the objects ready made.

    python -m benchmarks.stores_weaviate [--rows 20000] [--dimension 384] [--rounds 3]

Both send messages of the same rows, equally many under way, to the same server, a process of its own: a stand-in that
keeps everything in memory, so that the client's side is what is measured. Rounds are interleaved; medians are printed;
CPU time is that of this process, without the server's.
"""

import argparse
import json
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from statistics import median
from uuid import UUID

import numpy as np
import pyarrow as pa
from weaviate.classes.data import DataObject

from pipelines.dataflow.records import VECTOR_COLUMN
from pipelines.settings import IngestSettings
from pipelines.store_settings import WeaviateSettings
from pipelines.stores import weaviate_store
from pipelines.stores.weaviate_rows import ROWS_PER_MESSAGE
from pipelines.stores.weaviate_schema import Generation

WORDS_PER_TEXT = 120
"""About those of a SQuAD passage."""


def main() -> None:
    """Print the figures as JSON."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    for name, default in [("--rows", 20_000), ("--dimension", 384), ("--rounds", 3)]:
        parser.add_argument(name, type=int, default=default)
    given = parser.parse_args()
    rows = generated(given.rows, given.dimension)
    with served() as settings:
        client = weaviate_store.client(settings)
        ways = {
            "store": lambda generation: by_store(generation, rows),
            "bare_client": bare_client(rows, settings.concurrency),
        }
        seconds: dict[str, list[float]] = {way: [] for way in ways}
        cpu_seconds: dict[str, list[float]] = {way: [] for way in ways}
        for round_ in range(given.rounds):
            for way, write in ways.items():
                name = f"{way}_{round_:08x}"
                generation = weaviate_store.collection(client, way, name, given.dimension, "cosine", ())
                started, cpu_started = time.perf_counter(), time.process_time()
                write(generation)
                seconds[way].append(time.perf_counter() - started)
                cpu_seconds[way].append(time.process_time() - cpu_started)
                assert weaviate_store.row_count(generation) == given.rows
                weaviate_store.dropped(client, way, name)
        client.close()
    rates = {way: given.rows / median(taken) for way, taken in seconds.items()}
    figures = {
        "rows": given.rows,
        "dimension": given.dimension,
        "concurrency": settings.concurrency,
        "rows_per_message": ROWS_PER_MESSAGE,
        "rows_per_call": IngestSettings().batch_passages,
        "rounds": given.rounds,
        "rows_per_second": {way: round(rate) for way, rate in rates.items()},
        "seconds": {way: [round(one, 3) for one in taken] for way, taken in seconds.items()},
        "ratio": round(rates["store"] / rates["bare_client"], 3),
        "cpu_microseconds_per_row": {way: round(median(of) / given.rows * 1e6) for way, of in cpu_seconds.items()},
    }
    print(json.dumps(figures, indent=2))


def by_store(generation: Generation, rows: pa.Table) -> None:
    """Write as an ingest does, batch by batch."""
    step = IngestSettings().batch_passages
    for start in range(0, rows.num_rows, step):
        weaviate_store.rows_written(generation, rows.slice(start, step))


def bare_client(rows: pa.Table, concurrency: int) -> Callable[[Generation], None]:
    """Send lists of objects that were made before."""
    plain = rows.drop_columns(["id", VECTOR_COLUMN]).to_pylist()
    vectors, keys = rows[VECTOR_COLUMN].to_pylist(), [str(UUID(key)) for key in rows["id"].to_pylist()]
    objects = [
        DataObject(properties=properties, uuid=key, vector=vector)
        for properties, key, vector in zip(plain, keys, vectors, strict=True)
    ]
    messages = [objects[start : start + ROWS_PER_MESSAGE] for start in range(0, len(objects), ROWS_PER_MESSAGE)]

    def write(generation: Generation) -> None:
        with ThreadPoolExecutor(concurrency) as threads:
            for reply in threads.map(generation.rows.data.insert_many, messages):
                assert not reply.has_errors

    return write


def generated(count: int, dimension: int) -> pa.Table:
    """Records with random vectors and texts."""
    random = np.random.default_rng(1)
    vectors = random.normal(size=(count, dimension)).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    words = np.array([f"word{number}" for number in range(5_000)])
    texts = [" ".join(words[random.integers(0, len(words), WORDS_PER_TEXT)]) for _ in range(count)]
    return pa.table(
        {
            "id": pa.array([f"{int(key):024x}00000001" for key in random.integers(0, 2**62, count)]),
            "document_id": pa.array([f"document {row}" for row in range(count)]),
            "title": pa.array([f"Title {row // 20}" for row in range(count)]),
            "ordinal": pa.array([0] * count, pa.int32()),
            "text": pa.array(texts),
            VECTOR_COLUMN: pa.FixedSizeListArray.from_arrays(pa.array(vectors.ravel()), dimension),
        }
    )


@contextmanager
def served() -> Iterator[WeaviateSettings]:
    """A server in a process of its own; the settings that reach it."""
    command = [sys.executable, "-m", "tests.wire.weaviate_server", "--port", "0", "--grpc-port", "0"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            uri, _, rest = process.stdout.readline().partition(", gRPC on port ")
            yield WeaviateSettings(uri=uri, grpc_port=int(rest.partition(":")[0]))
        finally:
            process.terminate()


if __name__ == "__main__":
    main()
