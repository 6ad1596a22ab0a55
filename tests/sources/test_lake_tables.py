"""Folders of Delta Lake, Iceberg and Hudi: their files are not their rows, and they are refused by name."""

from pathlib import Path

import fsspec
import pytest

from squadron.errors import SourceError
from tests.sources.corpora import read, records, texts, write_lines, write_parquet

LOGS = {
    "Delta Lake": "_delta_log/00000000000000000001.json",
    "Hudi": ".hoodie/hoodie.properties",
    "Iceberg": "metadata/00001-7a2c.metadata.json",
}
PATTERNS = ["", "/*.parquet", "/**/*.parquet", "/lang=de", "/lang=de/*.parquet", "/lang=de/part-1.parquet"]


@pytest.mark.parametrize("kind", LOGS)
@pytest.mark.parametrize("pattern", PATTERNS)
def test_a_table_is_refused_and_its_log_named(tmp_path: Path, kind: str, pattern: str) -> None:
    write_parquet(tmp_path / "table" / "part-0.parquet", records(1))
    write_parquet(tmp_path / "table" / "lang=de" / "part-1.parquet", records(2))
    write_lines(tmp_path / "table" / LOGS[kind], [])

    with pytest.raises(SourceError) as refused:
        read(f"{tmp_path}/table{pattern}")

    log = LOGS[kind] if kind == "Iceberg" else LOGS[kind].partition("/")[0]
    assert str(refused.value).startswith(f"{tmp_path}/table is a table of {kind}, with a log in {log}: ")
    assert "Write the table's rows into a folder of their own" in str(refused.value)


@pytest.mark.parametrize("kind", LOGS)
def test_a_table_among_other_files_is_refused(tmp_path: Path, kind: str) -> None:
    write_parquet(tmp_path / "a.parquet", records(1))
    write_parquet(tmp_path / "tables" / "books" / "part-0.parquet", records(2))
    write_lines(tmp_path / "tables" / "books" / LOGS[kind], [])

    with pytest.raises(SourceError, match=rf"tables/books is a table of {kind}"):
        read(tmp_path)


@pytest.mark.parametrize("kind", LOGS)
@pytest.mark.parametrize("pattern", ["", "/*.parquet"])
def test_a_table_in_an_object_store_is_refused(kind: str, pattern: str, tmp_path: Path) -> None:
    memory, place = fsspec.filesystem("memory"), f"lake-{tmp_path.name}"
    content = write_parquet(tmp_path / "part.parquet", records(1)).read_bytes()
    memory.pipe(f"/{place}/part-0.parquet", content)
    memory.pipe(f"/{place}/{LOGS[kind]}", b"{}")

    with pytest.raises(SourceError, match=f"is a table of {kind}"):
        read(f"memory://{place}{pattern}")


def test_a_data_sets_copy_that_is_a_table_is_refused(tmp_path: Path) -> None:
    write_parquet(tmp_path / "part-0.parquet", records(1))
    write_lines(tmp_path / LOGS["Delta Lake"], [])

    with pytest.raises(SourceError, match="is a table of Delta Lake"):
        read(tmp_path, "squad")


def test_folders_of_such_names_that_hold_no_log_are_read(tmp_path: Path) -> None:
    write_lines(tmp_path / "metadata" / "books.jsonl", records(1))
    write_lines(tmp_path / "data" / "a.jsonl", records(2))
    write_lines(tmp_path / "_old" / LOGS["Delta Lake"], [])

    assert texts(tmp_path) == ["text 2", "text 1"]
