"""Staging: where a plan's passages wait for the tasks that embed them; a folder or an object store."""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import fsspec
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet

from squadron.errors import StoreError

ROWS_PER_GROUP = 4_096
_SHARD = "shard-"

SPENT = "spent"
"""The folder, in that of a run, where it is noted what the run has spent: all its tries together."""


@dataclass(frozen=True)
class Shard:
    """A file of passages to embed: what a task is told about its work."""

    path: str
    number: int
    passages: int
    tokens: int


def run_folder(staging: str, collection: str, run_id: str) -> str:
    """The folder of one run; the same for every retry of it."""
    return "/".join([staging.rstrip("/"), collection, safe_name(run_id)])


def safe_name(run_id: str) -> str:
    """A run's id as the name of a file or a folder."""
    return re.sub(r"[^\w.-]", "_", run_id)


class ShardWriter:
    """Writes passages into shards of at most `shard_passages`; holds a few thousand of them in memory."""

    def __init__(self, folder: str, shard_passages: int) -> None:
        self._folder = folder
        self._limit = shard_passages
        self._file: _ShardFile | None = None
        self._shards: list[Shard] = []

    def add(self, passages: pa.Table) -> None:
        """Take passages; a shard that is full is there for its readers."""
        while passages.num_rows:
            if self._file is None:
                path = f"{self._folder}/{_SHARD}{len(self._shards):05d}.parquet"
                self._file = _ShardFile(path, len(self._shards), passages.schema)
            room = self._limit - self._file.passages
            self._file.add(passages.slice(0, room))
            passages = passages.slice(room)
            if self._file.passages == self._limit:
                self._close_file()

    def close(self) -> list[Shard]:
        """Finish the last shard, and return all of them."""
        if self._file is not None:
            self._close_file()
        return self._shards

    def restarted(self) -> "ShardWriter":
        """Another writer in the place of this one, whose shards are removed."""
        self.close()
        remove(self._folder, but=SPENT)
        return ShardWriter(self._folder, self._limit)

    def _close_file(self) -> None:
        if self._file is not None:
            self._shards.append(self._file.close())
            self._file = None


class _ShardFile:
    """One shard while it is written, a row group at a time."""

    def __init__(self, path: str, number: int, schema: pa.Schema) -> None:
        self._staged = _StagedFile(path)
        self._writer = pyarrow.parquet.ParquetWriter(self._staged.file, schema, compression="zstd")
        self._waiting: list[pa.Table] = []
        self._number = number
        self._tokens = 0
        self.passages = 0

    def add(self, passages: pa.Table) -> None:
        self._waiting.append(passages)
        self._tokens += pc.sum(passages["tokens"]).as_py() or 0
        self.passages += passages.num_rows
        if sum(table.num_rows for table in self._waiting) >= ROWS_PER_GROUP:
            self._write()

    def close(self) -> Shard:
        self._write()
        with _reported(self._staged.path):
            self._writer.close()
        return Shard(self._staged.close(), self._number, self.passages, self._tokens)

    def _write(self) -> None:
        if self._waiting:
            with _reported(self._staged.path):
                self._writer.write_table(pa.concat_tables(self._waiting))
            self._waiting = []


class _StagedFile:
    """A file that is there when it is closed, and not before: readers see all of it or nothing."""

    def __init__(self, path: str) -> None:
        self.path = path
        self._filesystem, self._target = fsspec.core.url_to_fs(path)
        with _reported(path):
            self._filesystem.makedirs(self._filesystem._parent(self._target), exist_ok=True)
            self.file = self._filesystem.open(self._target + ".part", "wb")

    def close(self) -> str:
        with _reported(self.path):
            self.file.close()
            self._filesystem.mv(self._target + ".part", self._target)
        return self.path


def write_table(path: str, table: pa.Table) -> str:
    """Write a table as parquet; a reader sees all of it or nothing."""
    staged = _StagedFile(path)
    with _reported(path):
        pyarrow.parquet.write_table(table, staged.file, compression="zstd")
    return staged.close()


def planned_ids(folder: str) -> pa.Array:
    """The ids of the passages in a run's shards."""
    shards = [f"{folder}/{name}" for name in names(folder) if name.startswith(_SHARD)]
    columns = [read_table(path, ["id"])["id"].combine_chunks() for path in shards]
    return pa.concat_arrays([pa.array([], pa.string()), *columns])


def read_table(path: str, columns: list[str] | None = None) -> pa.Table:
    """A staged table, or some columns of it."""
    with _opened(path) as file:
        return pyarrow.parquet.read_table(file, columns=columns)


def read_batches(path: str, rows: int) -> Iterator[pa.Table]:
    """A staged table in pieces of so many rows, the last one excepted."""
    with _opened(path) as file:
        waiting: list[pa.Table] = []
        for batch in pyarrow.parquet.ParquetFile(file).iter_batches(rows):
            waiting.append(pa.Table.from_batches([batch]))
            table = pa.concat_tables(waiting)
            while table.num_rows >= rows:
                yield table.slice(0, rows)
                table = table.slice(rows)
            waiting = [table] if table.num_rows else []
        yield from waiting


def remove(folder: str, but: str | None = None) -> None:
    """Remove a run's folder, if it is there; `but`: except for the folder of that name in it."""
    filesystem, target = fsspec.core.url_to_fs(folder)
    filesystem.invalidate_cache()
    with _reported(folder, "removed"):
        if not filesystem.exists(target):
            return
        paths = filesystem.ls(target, detail=False) if but else []
        others = [path for path in paths if path.rstrip("/").rpartition("/")[2] != but]
        for path in others if len(others) < len(paths) else [target]:
            filesystem.rm(path, recursive=True)


def names(folder: str) -> list[str]:
    """The names of the complete files of a folder; none where there is no folder."""
    filesystem, target = fsspec.core.url_to_fs(folder)
    filesystem.invalidate_cache()
    try:
        paths = filesystem.ls(target, detail=False)
    except (FileNotFoundError, NotADirectoryError):
        return []
    return sorted(path.rstrip("/").rpartition("/")[2] for path in paths if not path.endswith(".part"))


def claimed(path: str, owner: str = "") -> bool:
    """Create a file that names its owner, if there is none. Of several that ask one is told True, the owner again."""
    filesystem, target = fsspec.core.url_to_fs(path)
    with _reported(path):
        filesystem.makedirs(filesystem._parent(target), exist_ok=True)
        try:
            with filesystem.open(target, "xb") as file:
                file.write(owner.encode())
        except FileExistsError:
            return bool(owner) and filesystem.cat_file(target).decode() == owner
    return True


def _opened(path: str) -> Any:
    try:
        return fsspec.open(path, "rb").open()
    except FileNotFoundError as error:
        raise StoreError(
            f"{path} is not there: staging must be shared by all workers (ingest.staging), "
            "and is removed when a run ends. Trigger a new run"
        ) from error


@contextmanager
def _reported(path: str, wanted: str = "written") -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise StoreError(
            f"ingest.staging: {path} cannot be {wanted}: {error.strerror or error}. Make room there or let this user "
            "write there, or set another place; then run again: what is in the store and the cache stays"
        ) from error
