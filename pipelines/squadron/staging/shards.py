"""Staging: where a plan's passages wait for the tasks that embed them; a folder or an object store."""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import fsspec
import pyarrow as pa
import pyarrow.parquet

from squadron.errors import StoreError
from squadron.process.atomic_file import PART, AtomicFile

SHARD = "shard-"
"""The beginning of the name of a shard's file."""

SPENT = "spent"
"""The folder, inside a run's, that says what all tries of the run have spent."""


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


def write_table(path: str, table: pa.Table) -> str:
    """Write a table as parquet; a reader sees all of it or nothing."""
    filesystem, target = fsspec.core.url_to_fs(path)
    with reported(path), AtomicFile(filesystem, target) as file:
        pyarrow.parquet.write_table(table, file, compression="zstd")
    return path


def planned_ids(folder: str) -> pa.Array:
    """The ids of the passages in a run's shards."""
    shards = [f"{folder}/{name}" for name in names(folder) if name.startswith(SHARD)]
    columns = [read_table(path, ["id"])["id"].combine_chunks() for path in shards]
    return pa.concat_arrays([pa.array([], pa.string()), *columns])


def read_table(path: str, columns: list[str] | None = None) -> pa.Table:
    """A staged table, or some columns of it."""
    with _opened(path) as file:
        return pyarrow.parquet.read_table(file, columns=columns)


def read_batches(path: str, rows: int) -> Iterator[pa.Table]:
    """A staged table in pieces of `rows` rows; the last one may have fewer."""
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
    """Remove a run's folder, if it is there; `but` names a folder in it that stays."""
    filesystem, target = fsspec.core.url_to_fs(folder)
    filesystem.invalidate_cache()
    with reported(folder, "removed"):
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
    return sorted(path.rstrip("/").rpartition("/")[2] for path in paths if not path.endswith(PART))


def claimed(path: str, owner: str = "") -> bool:
    """Whether the caller is the one who created the file; `owner` is written into it and is told True again."""
    filesystem, target = fsspec.core.url_to_fs(path)
    with reported(path):
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
def reported(path: str, action: str = "written") -> Iterator[None]:
    """Inside, an OSError becomes a StoreError that names the setting."""
    try:
        yield
    except OSError as error:
        raise StoreError(
            f"ingest.staging: {path} cannot be {action}: {error.strerror or error}. Make room there or let this user "
            "write there, or set another place; then run again: what is in the store and the cache stays"
        ) from error
