"""Unreadable rows and files of a corpus: each is told with its place and left out, and everything else is read."""

import gzip
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, ClassVar

import fsspec
import pyarrow as pa
import pyarrow.parquet
import pytest
from fsspec.implementations.memory import MemoryFileSystem

from squadron.errors import SourceError
from squadron.settings.registry import load
from squadron.settings.schema import ColumnSettings, SourceSettings
from squadron.sources.rows import Unreadable

SECRET = "s3cr3t"


def read(path: Path | str, **columns: str | None) -> tuple[list[str], list[Unreadable]]:
    """The texts of a corpus with explicit ids, and what cannot be read of it."""
    named = ColumnSettings.model_validate({"document_id": "id", "question_id": None} | columns)
    items = list(load("sources", "files").read_rows(SourceSettings(name="files", path=str(path), columns=named)))
    unread = [item for item in items if isinstance(item, Unreadable)]
    return [text for rows in items if isinstance(rows, pa.RecordBatch) for text in rows["text"].to_pylist()], unread


def sound(*numbers: int) -> str:
    return "".join(json.dumps({"id": f"d{n}", "context": f"text {n}"}) + "\n" for n in numbers)


@pytest.mark.parametrize(
    ("line", "reason", "document_id"),
    [
        (b'{"id": "x", "context": "Tea"', "not JSON: Expecting ',' delimiter", None),
        (b'{"id": "x", "context": "Tea', "not JSON: Unterminated string starting at", None),
        (b'{"id": "x", "context": "caf\xe9"}', "byte 28 of the line is not UTF-8: convert the file", None),
        (b"[1, 2]", "wanted a JSON object, found list", None),
        (b'{"id": "x", "context": 5}', "'context' holds int, wanted text: set source.columns.text", "x"),
        (b'{"id": 7, "context": ["Tea"]}', "'context' holds list, wanted text: set source.columns.text", "7"),
        (b'{"id": "x", "context": "\\ud83d"}', "'context' holds half of a surrogate pair", "x"),
        (b'{"id": "x", "context": "Tea", "title": {}}', "'title' holds dict, wanted text", "x"),
        (b'{"id": ["x"], "context": "Tea"}', "'id' holds list, wanted text", None),
        (b'{"context": "Tea"}', "no id in column 'id': give every document one", None),
        (b'{"id": "  ", "context": "Tea"}', "no id in column 'id': give every document one", None),
    ],
)
def test_a_broken_json_line_is_told_and_the_others_are_read(
    tmp_path: Path, line: bytes, reason: str, document_id: str | None
) -> None:
    (tmp_path / "c.jsonl").write_bytes(sound(*range(1500)).encode() + b"\n" + line + b"\n" + sound(1500).encode())

    texts, (item,) = read(tmp_path / "c.jsonl")

    assert texts == [f"text {n}" for n in range(1501)]
    assert (item.place, item.document_id) == (f"{tmp_path}/c.jsonl, line 1502", document_id)
    assert item.reason.startswith(reason)
    assert (item.rows, item.files) == (1, 0)


@pytest.mark.parametrize(
    ("row", "reason", "document_id", "line"),
    [
        (b"x", "1 fields, the header has 3: mend the row, or quote it", None, 3),
        (b"x,Tea, hot,T", "4 fields, the header has 3: mend the row, or quote it", None, 3),
        (b"x,caf\xe9,T", "byte 6 of the line is not UTF-8: convert the file", "x", 3),
        (b'x,"two lines\ncaf\xe9, and a comma",T', "byte 4 of the line is not UTF-8: convert the file", "x", 3),
        (b"caf\xe9,Tea,T", "byte 4 of the line is not UTF-8: convert the file", None, 3),
        (b"caf\xe9", "1 fields, the header has 3: mend the row, or quote it", None, 3),
        (b",Tea,T", "no id in column 'id': give every document one", None, 3),
    ],
)
def test_a_broken_csv_row_is_told_and_the_others_are_read(
    tmp_path: Path, row: bytes, reason: str, document_id: str | None, line: int
) -> None:
    after = b"".join(b'd%d,"text\n %d",T\n' % (n, n) for n in range(3))
    (tmp_path / "c.csv").write_bytes(b"id,context,title\nfirst,Tea,T\n" + row + b"\n\n,,\n" + after)

    texts, (item,) = read(tmp_path / "c.csv")

    assert texts == ["Tea", "text\n 0", "text\n 1", "text\n 2"]
    assert (item.place, item.document_id) == (f"{tmp_path}/c.csv, line {line}", document_id)
    assert item.reason.startswith(reason)


@pytest.mark.parametrize("broken", ['d5,"text" 5\n', 'd5,"text 5\n'], ids=["words after a quote", "a quote not closed"])
def test_after_broken_quotes_a_csv_file_is_not_guessed_at(tmp_path: Path, broken: str) -> None:
    lines = [f"d{n},text {n}\n" for n in range(5)]
    (tmp_path / "c.csv").write_text("id,context\n" + "".join(lines) + broken + "".join(lines))

    texts, (item,) = read(tmp_path / "c.csv")

    assert texts == [f"text {n}" for n in range(5)]
    assert item.place == f"{tmp_path}/c.csv, line 7"
    assert item.reason.startswith("not CSV: ")
    assert (item.rows, item.document_id) == (6, None)


@pytest.mark.parametrize("kind", [pa.string(), pa.large_string(), pa.dictionary(pa.int32(), pa.string())], ids=str)
def test_a_parquet_row_whose_bytes_are_no_text_is_told(tmp_path: Path, kind: pa.DataType) -> None:
    bad = {3: b"caf\xe9", 1400: b"\xff"}
    raw = pa.array([bad.get(n, b"text %d" % n) for n in range(2000)], pa.large_binary())
    texts = pa.Array.from_buffers(pa.large_string(), len(raw), raw.buffers())
    chosen = texts.dictionary_encode() if pa.types.is_dictionary(kind) else texts.cast(kind)
    pa.parquet.write_table(pa.table({"id": [f"d{n}" for n in range(2000)], "context": chosen}), tmp_path / "c.parquet")

    found, items = read(tmp_path / "c.parquet")

    assert found == [f"text {n}" for n in range(2000) if n not in bad]
    assert [(item.place, item.document_id) for item in items] == [
        (f"{tmp_path}/c.parquet, row {n + 1}", f"d{n}") for n in bad
    ]
    assert {item.reason for item in items} == {"column 'context' holds bytes that are not UTF-8: convert the file"}


def test_a_parquet_row_without_an_id_is_told(tmp_path: Path) -> None:
    pa.parquet.write_table(pa.table({"id": ["a", None, " "], "context": ["A", "B", "C"]}), tmp_path / "c.parquet")

    texts, items = read(tmp_path / "c.parquet")

    assert texts == ["A"]
    assert [item.place for item in items] == [f"{tmp_path}/c.parquet, row {row}" for row in (2, 3)]


def test_a_million_broken_lines_are_not_held_in_memory_before_the_first_is_told(tmp_path: Path) -> None:
    path = tmp_path / "c.jsonl"
    path.write_text("{\n" * 5000 + sound(1))
    columns = ColumnSettings(document_id="id", question_id=None)
    items = load("sources", "files").read_rows(SourceSettings(name="files", path=str(path), columns=columns))

    assert next(iter(items)).place == f"{path}, line 1"
    assert sum(isinstance(item, Unreadable) for item in items) == 4999


def broken_parquet(path: Path) -> None:
    path.with_suffix(".parquet").write_bytes(b"PAR1 and nothing more")


def truncated_gzip(path: Path) -> None:
    path.with_suffix(".jsonl.gz").write_bytes(gzip.compress(sound(*range(1000, 6000)).encode())[:-500])


def other_json(path: Path) -> None:
    path.with_suffix(".json").write_text('{"data": [{}]}')


def link_to_nothing(path: Path) -> None:
    path.with_suffix(".jsonl").symlink_to(path.parent / "gone")


def link_to_itself(path: Path) -> None:
    path.with_suffix(".csv").symlink_to(path.with_suffix(".csv"))


@pytest.mark.parametrize("pattern", ["", "*"], ids=["a folder", "a glob"])
@pytest.mark.parametrize("broken", [broken_parquet, truncated_gzip, other_json, link_to_nothing, link_to_itself])
def test_a_broken_file_among_others_is_told_and_these_are_read(
    tmp_path: Path, broken: Callable[[Path], None], pattern: str
) -> None:
    for name, number in (("a.jsonl", 1), ("z.jsonl", 2)):
        (tmp_path / name).write_text(sound(number))
    broken(tmp_path / "m")

    texts, (item,) = read(tmp_path / pattern, document_id=None)

    assert [text for text in texts if len(text) == len("text 1")] == ["text 1", "text 2"]
    assert item.place.startswith(f"{tmp_path}/m.")
    assert (item.files, item.document_id) == (3, None)


def test_the_only_file_of_a_corpus_is_refused_when_it_is_broken(tmp_path: Path) -> None:
    broken_parquet(tmp_path / "c")

    for path in (tmp_path, tmp_path / "c.parquet", tmp_path / "*.parquet"):
        with pytest.raises(SourceError, match=r"c\.parquet cannot be read, is it complete\?"):
            read(path)


def test_a_column_that_a_whole_file_lacks_is_an_error_though_there_are_others(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text(sound(1))
    (tmp_path / "b.csv").write_text("id,content\n1,Tea\n")

    with pytest.raises(SourceError, match=r"b\.csv has no column 'context', did you mean 'content'"):
        read(tmp_path)


def test_a_folder_that_cannot_be_listed_is_told(tmp_path: Path) -> None:
    """A path of more bytes than the system takes stands for a folder that this user may not open."""
    (tmp_path / "a.jsonl").write_text(sound(1))
    folder = os.open(tmp_path, os.O_RDONLY)
    for name in ["deep" * 60] * 20:
        os.mkdir(name, dir_fd=folder)
        below = os.open(name, os.O_RDONLY, dir_fd=folder)
        os.close(folder)
        folder = below
    os.close(folder)

    texts, (item,) = read(tmp_path)
    with_glob, (same,) = read(tmp_path / "**" / "*.jsonl")

    assert (texts, same) == (["text 1"], item)
    assert with_glob == texts
    assert not read(tmp_path / "*.jsonl")[1]
    assert item.reason == "the folder cannot be listed: File name too long"
    assert (item.files, item.place[-1]) == (2, "/")


class _Wired(MemoryFileSystem):
    """A server in this process, whose addresses have a user and a password."""

    protocol = "wired"
    store: ClassVar[dict[str, Any]] = {}
    pseudo_dirs: ClassVar[list[str]] = [""]

    def unstrip_protocol(self, name: str) -> str:
        return f"wired://user:{SECRET}@host{name}"

    @classmethod
    def _strip_protocol(cls, path: str) -> str:
        return "/" + path.rpartition("/")[2].partition("?")[0]


def test_no_secret_of_an_address_is_told() -> None:
    fsspec.register_implementation("wired", _Wired, clobber=True)
    _Wired().pipe("/c.jsonl", (sound(1) + "{\n").encode())
    _Wired().pipe("/d.jsonl.gz", b"not packed")

    texts, (line,) = read(f"wired://user:{SECRET}@host/c.jsonl?signature={SECRET}")
    with pytest.raises(SourceError) as broken:
        read(f"wired://user:{SECRET}@host/d.jsonl.gz?signature={SECRET}")
    with pytest.raises(SourceError) as unknown:
        read(f"unknown://user:{SECRET}@host/c.jsonl?signature={SECRET}")

    assert texts == ["text 1"]
    assert line.place == "wired://host/c.jsonl, line 2"
    assert str(broken.value).startswith("wired://host/d.jsonl.gz cannot be read")
    assert str(unknown.value).startswith("source.path 'unknown://host/c.jsonl' cannot be opened")


def test_what_is_told_does_not_quote_the_row(tmp_path: Path) -> None:
    lines = ['{"id": "a", "context": "SECRET"', '{"id": "b", "context": ["SECRET"]}', '{"id": "c", "context": SECRET}']
    (tmp_path / "c.jsonl").write_text(sound(1) + "\n".join(lines))
    (tmp_path / "c.csv").write_text('id,context\nd,"SECRET" x\n')

    _, items = read(tmp_path)

    assert len(items) == 4
    assert not [item for item in items if "SECRET" in repr(item)]
