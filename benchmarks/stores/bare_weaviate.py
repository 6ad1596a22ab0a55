"""Weaviate's bare client: as many rows a message, as objects of the client already."""

import subprocess
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any
from uuid import UUID

import pyarrow as pa
from weaviate.classes.data import DataObject
from weaviate.classes.query import Filter

from squadron.settings.store_sections import WeaviateSettings
from squadron.stores.record_schema import VECTOR_COLUMN
from squadron.stores.weaviate.rows import IDS_PER_DELETE, ROWS_PER_MESSAGE
from squadron.stores.weaviate.schema import Generation


@contextmanager
def served() -> Iterator[WeaviateSettings]:
    """Settings for a server of ours, a process of its own."""
    command = [sys.executable, "-m", "tests.wire.weaviate_server", "--port", "0", "--grpc-port", "0"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout
            uri, _, rest = process.stdout.readline().partition(", gRPC on port ")
            yield WeaviateSettings(uri=uri, grpc_port=int(rest.partition(":")[0]))
        finally:
            process.terminate()


@contextmanager
def connected(settings: WeaviateSettings) -> Iterator[None]:
    """Nothing: a generation bears the client's own collection."""
    yield None


def actions(
    client: None, generation: Generation, calls: list[pa.Table], expired: pa.Array
) -> dict[str, Callable[[], int]]:
    """What is timed."""
    rows = generation.rows
    messages = [_messages(call) for call in calls]
    uuids = [str(UUID(key)) for key in expired.to_pylist()]
    filters = [
        Filter.by_id().contains_any(uuids[start : start + IDS_PER_DELETE])
        for start in range(0, len(uuids), IDS_PER_DELETE)
    ]
    threads = ThreadPoolExecutor(generation.connection.settings.concurrency)

    def insert(message: list[DataObject[Any, Any]]) -> int:
        reply = rows.data.insert_many(message)
        return len(reply.uuids) - len(reply.errors)

    return {
        "write": lambda: sum(count for call in messages for count in threads.map(insert, call)),
        "list": lambda: sum(1 for _ in rows.iterator(return_properties=[])),
        "delete": lambda: sum(threads.map(lambda where: rows.data.delete_many(where=where).successful, filters)),
    }


def _messages(call: pa.Table) -> list[list[DataObject[Any, Any]]]:
    objects = [
        DataObject(properties=properties, uuid=str(UUID(key)), vector=vector)
        for properties, key, vector in zip(
            call.drop_columns(["id", VECTOR_COLUMN]).to_pylist(),
            call["id"].to_pylist(),
            call[VECTOR_COLUMN].to_pylist(),
            strict=True,
        )
    ]
    return [objects[start : start + ROWS_PER_MESSAGE] for start in range(0, len(objects), ROWS_PER_MESSAGE)]
