"""Rows per second into, and ids per second from, each vector store: ours over its bare client.

    python -m benchmarks.stores [--store NAME]... [--rows 20000] [--rows-per-call 2048] [--rounds 5]

Both work on the same server of ours on loopback (LanceDB: on a folder), in turns, with the same requests and as many
under way. The bare client is handed what it sends ready-made: objects, lists of numbers, batches within the limits.
A ratio is the median of those of the rounds, above 1 where ours is faster; CPU time is this process's alone. JSON
on stdout, a table on stderr.
"""

import argparse
import json
import os
import platform
import sys
import time
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from importlib import import_module
from importlib.metadata import version
from statistics import median
from types import ModuleType
from typing import Any

import numpy as np
import pyarrow as pa

from benchmarks.machine import processor
from squadron.settings.registry import load
from squadron.settings.schema import IngestSettings
from squadron.stores.record_schema import VECTOR_COLUMN

STORES = {"lancedb": "lancedb", "pgvector": "psycopg", "pinecone": "pinecone", "weaviate": "weaviate-client"}
"""The stores, and the packages of their bare clients."""
WORDS_PER_TEXT = 120
"""About those of a SQuAD passage."""
DELETED_FRACTION = 0.1

Actions = Mapping[str, Callable[[], int]]
"""What is timed, by name, in this order; each returns how many rows it was about."""


def main() -> None:
    """Print the figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--store", action="append", choices=STORES, help="one or more; without it, all")
    rows_per_call = IngestSettings().batch_passages
    numbers = {"rows": 20_000, "rows-per-call": rows_per_call, "dimension": 384, "rounds": 5}
    for name, default in numbers.items():
        parser.add_argument(f"--{name}", type=int, default=default)
    given = parser.parse_args()
    records = made_records(given.rows, given.dimension)
    calls = [records.slice(start, given.rows_per_call) for start in range(0, given.rows, given.rows_per_call)]
    found = {name: measured(name, calls, given.rounds) for name in given.store or STORES}
    conditions = {
        "date": f"{datetime.now(UTC):%Y-%m-%d}",
        "machine": f"{processor()}, {os.cpu_count()} cores",
        "versions": {"python": platform.python_version()} | {STORES[name]: version(STORES[name]) for name in found},
        **{name: getattr(given, name.replace("-", "_")) for name in numbers},
    }
    print(json.dumps(conditions | {"stores": found}, indent=2))
    print_table(found)


def measured(name: str, calls: list[pa.Table], rounds: int) -> dict[str, Any]:
    """Each action's rates, ours and the bare client's, medians of rounds in turns, and their ratio."""
    store, peer = load("stores", name), import_module(f"benchmarks.stores.bare_{name}")
    ids = pa.concat_tables(calls)["id"].combine_chunks()
    expired = ids[: int(len(ids) * DELETED_FRACTION)]
    times: dict[str, dict[str, list[tuple[float, float]]]] = {}
    counts: dict[str, int] = {}
    dimension = len(calls[0][VECTOR_COLUMN][0])
    with peer.served() as settings, peer.connected(settings) as bare:
        client = store.client(settings)
        ways: dict[str, Callable[[Any], Actions]] = {
            "ours": lambda generation: store_actions(store, generation, calls, expired),
            "bare": lambda generation: peer.actions(bare, generation, calls, expired),
        }
        for number in range(rounds + 1):
            for way in sorted(ways, reverse=number % 2 == 0):
                generation = f"bench_{number:07x}{'a' if way == 'ours' else 'b'}"
                opened = store.generation_table(client, "bench", generation, dimension, "cosine", ())
                for action, act in ways[way](opened).items():
                    taken, count = timed(act)
                    if number:  # the first round opens connections, and is not counted
                        times.setdefault(action, {}).setdefault(way, []).append(taken)
                    if counts.setdefault(action, count) != count:
                        raise RuntimeError(f"{name}: {way} {action} was about {count} rows, not {counts[action]}")
                store.dropped(client, "bench", generation)
    return {action: _figures(taken, counts[action]) for action, taken in times.items()}


def store_actions(store: ModuleType, generation: Any, calls: list[pa.Table], expired: pa.Array) -> Actions:
    """Ours: as an ingest writes, lists and deletes."""
    return {
        "write": lambda: sum(store.rows_written(generation, call) for call in calls),
        "list": lambda: sum(len(page) for page in store.stored_ids(generation)),
        "delete": lambda: store.rows_deleted(generation, expired),
    }


def timed(act: Callable[[], int]) -> tuple[tuple[float, float], int]:
    """Seconds on the clock and of this process's CPU, and what it returned."""
    started, cpu_started = time.perf_counter(), time.process_time()
    count = act()
    return (time.perf_counter() - started, time.process_time() - cpu_started), count


def made_records(count: int, dimension: int) -> pa.Table:
    """Records with random texts and vectors of unit length."""
    random = np.random.default_rng(1)
    vectors = random.normal(size=(count, dimension)).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    words = np.array([f"word{number}" for number in range(5_000)])
    texts = [" ".join(words[random.integers(0, len(words), WORDS_PER_TEXT)]) for _ in range(count)]
    return pa.table(
        {
            "id": [f"{int(key):024x}00000001" for key in random.integers(0, 2**62, count) << 1],
            "document_id": [f"document {row}" for row in range(count)],
            "title": [f"Title {row // 20}" for row in range(count)],
            "ordinal": pa.array([0] * count, pa.int32()),
            "text": texts,
            VECTOR_COLUMN: pa.FixedSizeListArray.from_arrays(pa.array(vectors.ravel()), dimension),
        }
    )


def print_table(found: Mapping[str, Mapping[str, Any]]) -> None:
    """The figures for people, on stderr."""
    print(
        "| store | | rows/s | bare client | ratio | CPU µs/row | bare |\n|---|---|---|---|---|---|---|", file=sys.stderr
    )
    for store, actions in found.items():
        for action, figures in actions.items():
            rates, cpu = figures["rows_per_second"], figures["cpu_microseconds_per_row"]
            cells = [f"{rates['ours']:,}", f"{rates['bare']:,}", f"{figures['ratio']:.2f}", cpu["ours"], cpu["bare"]]
            print("|", " | ".join(map(str, [store, action, *cells])), "|", file=sys.stderr)


def _figures(taken: Mapping[str, list[tuple[float, float]]], rows: int) -> dict[str, Any]:
    ratios = [bare / ours for (ours, _), (bare, _) in zip(taken["ours"], taken["bare"], strict=True)]
    return {
        "rows": rows,
        "rows_per_second": {way: round(rows / median(wall for wall, _ in taken[way])) for way in taken},
        "ratio": round(median(ratios), 3),
        "ratios": [round(ratio, 3) for ratio in ratios],
        "cpu_microseconds_per_row": {way: round(median(cpu for _, cpu in taken[way]) / rows * 1e6, 1) for way in taken},
    }


if __name__ == "__main__":
    main()
