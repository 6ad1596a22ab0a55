"""Atomic files: whole or absent, whoever else writes the same one."""

from pathlib import Path

import fsspec
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from squadron.process.atomic_file import PART, AtomicFile


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.rglob("*") if path.is_file())


@pytest.fixture
def local() -> fsspec.AbstractFileSystem:
    return fsspec.filesystem("file")


def test_a_file_is_there_when_it_is_published_and_not_before(tmp_path: Path, local: fsspec.AbstractFileSystem) -> None:
    target = tmp_path / "folder" / "file"
    with AtomicFile(local, str(target)) as file:
        file.write(b"all of it")
        file.flush()
        assert not target.exists()
        assert [name.endswith(PART) for name in names(tmp_path)] == [True]
    assert target.read_bytes() == b"all of it"
    assert names(tmp_path) == ["file"]


def test_two_writers_of_one_file_do_not_mix(tmp_path: Path, local: fsspec.AbstractFileSystem) -> None:
    target = str(tmp_path / "shard.parquet")
    long, short = pa.table({"n": range(100_000)}), pa.table({"n": range(5)})
    first, second = AtomicFile(local, target), AtomicFile(local, target)
    pq.write_table(long, first.file)
    pq.write_table(short, second.file)

    first.publish()
    assert pq.read_table(target).equals(long)
    second.publish()
    assert pq.read_table(target).equals(short)
    assert names(tmp_path) == ["shard.parquet"]


def test_what_was_there_stays_when_writing_fails(tmp_path: Path, local: fsspec.AbstractFileSystem) -> None:
    target = tmp_path / "file"
    target.write_bytes(b"earlier")
    with pytest.raises(ZeroDivisionError), AtomicFile(local, str(target)) as file:
        file.write(b"half")
        raise ZeroDivisionError
    assert target.read_bytes() == b"earlier"
    assert names(tmp_path) == ["file"]


def test_a_file_that_cannot_be_published_leaves_nothing(tmp_path: Path, local: fsspec.AbstractFileSystem) -> None:
    target = tmp_path / "file"
    with pytest.raises(FileNotFoundError), AtomicFile(local, str(target)) as file:
        file.write(b"all of it")
        next(tmp_path.glob(f"*{PART}")).unlink()
    assert names(tmp_path) == []


def test_an_object_store_is_written_the_same_way() -> None:
    memory = fsspec.filesystem("memory")
    with AtomicFile(memory, "/atomic/file") as file:
        file.write(b"all of it")
    assert memory.cat_file("/atomic/file") == b"all of it"
    assert [name for name in memory.find("/atomic") if name.endswith(PART)] == []
