"""Pinecone's bare client: the same requests, their vectors lists of numbers already."""

import os
import secrets
import subprocess
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import orjson
import pinecone
import pyarrow as pa

from squadron.settings.store_sections import PineconeSettings
from squadron.stores.pinecone import rows, writes
from squadron.stores.pinecone.store import IDS_PER_DELETE

ID_STARTS = "0123456789abcdef"


@contextmanager
def served() -> Iterator[PineconeSettings]:
    """Settings for a server of ours, a process of its own."""
    os.environ["PINECONE_API_KEY"] = secrets.token_hex()
    command = [sys.executable, "-m", "tests.wire.pinecone_server"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout
            yield PineconeSettings(host=process.stdout.readline().rpartition("=")[2].strip())
        finally:
            process.terminate()


@contextmanager
def connected(settings: PineconeSettings) -> Iterator[pinecone.Index]:
    """The client, with as many connections as it opens by itself."""
    index = pinecone.Index(host=settings.host or "")
    yield index
    index.close()


def actions(
    client: pinecone.Index, generation: rows.Namespace, calls: list[pa.Table], expired: pa.Array
) -> dict[str, Callable[[], int]]:
    """What is timed."""
    concurrency, name = generation.connection.settings.concurrency, generation.name
    requests = [_requests(call, generation.dimension, concurrency) for call in calls]
    ids = [expired[start : start + IDS_PER_DELETE].to_pylist() for start in range(0, len(expired), IDS_PER_DELETE)]
    threads = ThreadPoolExecutor(concurrency)

    def upsert(vectors: list[pinecone.Vector]) -> int:
        return client.upsert(vectors=vectors, namespace=name).upserted_count

    def listed(start: str) -> int:
        return sum(len(page.vectors) for page in client.list(prefix=start, namespace=name))

    def delete(part: list[str]) -> int:
        client.delete(ids=part, namespace=name)
        return len(part)

    return {
        "write": lambda: sum(count for call in requests for count in threads.map(upsert, call)),
        "list": lambda: sum(threads.map(listed, ID_STARTS)),
        "delete": lambda: sum(threads.map(delete, ids)),
    }


def _requests(call: pa.Table, dimension: int, concurrency: int) -> list[list[pinecone.Vector]]:
    """The numbers have the digits of a float32: with those of Python's floats requests would be over the limit."""
    made = writes.rows_of(call, ())
    numbers = orjson.loads(orjson.dumps(made.vectors, option=orjson.OPT_SERIALIZE_NUMPY))
    rows_made = zip(made.ids, numbers, made.metadata, strict=True)
    vectors = [pinecone.Vector(key, values, metadata=metadata) for key, values, metadata in rows_made]
    return [vectors[start:stop] for start, stop in writes.batches(writes.metadata_bytes(made), dimension, concurrency)]
