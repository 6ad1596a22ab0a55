"""Rows per second into Pinecone's store, against the bare client that sends the same requests, ready-made.

    python -m benchmarks.stores_pinecone [--rows 20000] [--dimension 384] [--rounds 3]

Both write to a server of ours on loopback, in a process of its own, in turns and with as many connections. The
bare client is given what the store has to make first: vectors as lists of numbers, metadata, requests within the
limits. The figures are medians; JSON.
"""

import argparse
import json
import os
import secrets
import subprocess
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from statistics import median
from typing import Any

import numpy as np
import orjson
import pinecone
import pyarrow as pa

from pipelines.store_settings import PineconeSettings
from pipelines.stores import pinecone_rows, pinecone_store

ROWS_PER_CALL = 2_048
TEXT = "A passage of the length that the passages of a corpus of questions and answers have. " * 8


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=20_000)
    parser.add_argument("--dimension", type=int, default=384)
    parser.add_argument("--rounds", type=int, default=3)
    given = parser.parse_args()
    os.environ["PINECONE_API_KEY"] = secrets.token_hex()
    server = subprocess.Popen([sys.executable, "-m", "tests.wire.pinecone_server"], stdout=subprocess.PIPE, text=True)
    try:
        assert server.stdout is not None
        settings = PineconeSettings(host=server.stdout.readline().rpartition("=")[2].strip())
        print(json.dumps(measured(settings, given.rows, given.dimension, given.rounds), indent=2))
    finally:
        server.terminate()
        server.wait()


def measured(settings: PineconeSettings, rows: int, dimension: int, rounds: int) -> dict[str, Any]:
    """Rows per second of the store and of the client: in calls of 2,048 rows as the pipeline makes them, and in one."""
    table = made_records(rows, dimension)
    client = pinecone_store.client(settings)

    def collection(name: str) -> pinecone_rows.Namespace:
        return pinecone_store.collection(client, "bench", name, dimension, "cosine", ())

    def written(name: str, rows_per_call: int) -> float:
        opened = collection(name)
        parts = [table.slice(start, rows_per_call) for start in range(0, rows, rows_per_call)]
        return seconds(lambda: [pinecone_store.rows_written(opened, part) for part in parts])

    def sent(name: str, rows_per_call: int) -> float:
        opened = collection(name)
        index = pinecone.Index(host=settings.host or "")
        calls = [ready(opened, table.slice(start, rows_per_call)) for start in range(0, rows, rows_per_call)]
        with ThreadPoolExecutor(settings.concurrency) as threads:
            upsert = lambda vectors: index.upsert(vectors=vectors, namespace=name)  # noqa: E731
            return seconds(lambda: [list(threads.map(upsert, requests)) for requests in calls])

    times: dict[str, list[float]] = {}
    for round_number in range(rounds):
        for rows_per_call in (ROWS_PER_CALL, rows):
            for who, write in (("store", written), ("client", sent)):
                name = f"bench_{who}_{rows_per_call}_{round_number}"
                times.setdefault(f"{who}_{rows_per_call}_a_call", []).append(write(name, rows_per_call))
                client.drop(collection(name).place, name)
    rates = {name: round(rows / median(taken)) for name, taken in times.items()}
    shares = {
        f"share_{size}_a_call": round(rates[f"store_{size}_a_call"] / rates[f"client_{size}_a_call"], 3)
        for size in (ROWS_PER_CALL, rows)
    }
    return {"rows": rows, "dimension": dimension, "rounds": rounds, "rows_per_second": rates} | shares


def made_records(rows: int, dimension: int) -> pa.Table:
    """Records of unit length vectors."""
    vectors = np.random.default_rng(1).normal(size=(rows, dimension)).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    return pa.table(
        {
            "id": [f"{row:024x}00000001" for row in range(rows)],
            "document_id": [f"document {row}" for row in range(rows)],
            "title": [f"Title {row}" for row in range(rows)],
            "ordinal": pa.array([0] * rows, pa.int32()),
            "text": [f"{row} {TEXT}" for row in range(rows)],
            "vector": pa.FixedSizeListArray.from_arrays(pa.array(vectors.ravel()), dimension),
        }
    )


def ready(opened: pinecone_rows.Namespace, part: pa.Table) -> list[list[pinecone.Vector]]:
    """The requests that the store makes of the records, byte for byte once they are encoded."""
    metadata, ids = pinecone_rows.metadata_of(part, ()), part["id"].to_pylist()
    sizes = pinecone_rows.metadata_bytes(part, ())
    values = np.array(part["vector"].combine_chunks().flatten()).reshape(part.num_rows, -1)
    numbers = orjson.loads(orjson.dumps(values, option=orjson.OPT_SERIALIZE_NUMPY))
    vectors = [pinecone.Vector(*row) for row in zip(ids, numbers, [None] * len(ids), metadata, strict=True)]
    cuts = pinecone_rows.batches(sizes, opened.dimension, opened.connection.settings.concurrency)
    return [vectors[start:stop] for start, stop in cuts]


def seconds(action: Callable[[], Any]) -> float:
    """How long it took."""
    started = time.perf_counter()
    action()
    return time.perf_counter() - started


if __name__ == "__main__":
    main()
