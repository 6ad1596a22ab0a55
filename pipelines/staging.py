"""Staging: where a plan's passages wait for the tasks that embed them; a folder or an object store."""

import re
from collections.abc import Iterator
from dataclasses import dataclass

import fsspec
import pyarrow as pa
import pyarrow.parquet

from pipelines.errors import StoreError


@dataclass(frozen=True)
class Shard:
    """A file of passages to embed: what a task is told about its work."""

    path: str
    number: int
    passages: int
    tokens: int


def run_folder(staging: str, collection: str, run_id: str) -> str:
    """The folder of one run; the same for every retry of it."""
    return "/".join([staging.rstrip("/"), collection, re.sub(r"[^\w.-]", "_", run_id)])


class ShardWriter:
    """Writes passages into shards of at most `shard_passages`; holds one of them in memory."""

    def __init__(self, folder: str, shard_passages: int) -> None:
        self._folder = folder
        self._limit = shard_passages
        self._waiting: list[pa.Table] = []
        self._rows = 0
        self.shards: list[Shard] = []

    def add(self, passages: pa.Table) -> None:
        """Take passages, and write every shard that is full."""
        self._waiting.append(passages)
        self._rows += passages.num_rows
        while self._rows >= self._limit:
            self._write(self._limit)

    def close(self) -> list[Shard]:
        """Write what is left, and return all shards."""
        if self._rows:
            self._write(self._rows)
        return self.shards

    def _write(self, rows: int) -> None:
        waiting = pa.concat_tables(self._waiting)
        shard, rest = waiting.slice(0, rows), waiting.slice(rows)
        self._waiting, self._rows = [rest], rest.num_rows
        number = len(self.shards)
        path = write_table(f"{self._folder}/shard-{number:05d}.parquet", shard)
        tokens = sum(shard["tokens"].to_pylist())
        self.shards.append(Shard(path, number, shard.num_rows, tokens))


def write_table(path: str, table: pa.Table) -> str:
    """Write a table as parquet; a reader sees all of it or nothing."""
    filesystem, target = fsspec.core.url_to_fs(path)
    try:
        filesystem.makedirs(filesystem._parent(target), exist_ok=True)
        with filesystem.open(target + ".part", "wb") as file:
            pyarrow.parquet.write_table(table, file, compression="zstd")
        filesystem.mv(target + ".part", target)
    except OSError as error:
        raise StoreError(f"ingest.staging: {path} cannot be written: {error.strerror or error}") from error
    return path


def read_table(path: str) -> pa.Table:
    """A staged table."""
    with _opened(path) as file:
        return pyarrow.parquet.read_table(file)


def read_batches(path: str, rows: int) -> Iterator[pa.Table]:
    """A staged table in pieces of at most so many rows."""
    with _opened(path) as file:
        for batch in pyarrow.parquet.ParquetFile(file).iter_batches(rows):
            yield pa.Table.from_batches([batch])


def remove(folder: str) -> None:
    """Remove a run's folder, if it is there."""
    filesystem, target = fsspec.core.url_to_fs(folder)
    if filesystem.exists(target):
        filesystem.rm(target, recursive=True)


def _opened(path: str):  # noqa: ANN202 - fsspec has no type for it
    try:
        return fsspec.open(path, "rb").open()
    except FileNotFoundError as error:
        raise StoreError(
            f"{path} is not there: staging must be shared by all workers (ingest.staging), "
            "and is removed when a run ends. Trigger a new run"
        ) from error
