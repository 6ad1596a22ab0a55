"""Files below a source's path that are not read: one line says how many, and why."""

from pathlib import Path

import fsspec
import pytest

from squadron.errors import SourceError
from tests.sources.corpora import records, texts, write_lines


def lines(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in caplog.records if "passed over" in record.getMessage()]


def test_files_of_no_known_format_and_hidden_ones_are_counted_by_reason(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    write_lines(tmp_path / "a.jsonl", records(1))
    for name in ("b.txt", "deep/c.txt", "d.tsv", "part-00000", "e.jsonl.zst"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("text")
    for name in ("_raw/x.jsonl", ".cache/y.jsonl", "_SUCCESS"):
        write_lines(tmp_path / name, records(9))

    assert texts(tmp_path) == ["text 1"]
    assert lines(caplog) == [
        f"8 files of the corpus '{tmp_path}' are passed over: 5 of no known format (1 .jsonl.zst: e.jsonl.zst, "
        "1 .tsv: d.tsv, 2 .txt: b.txt, 1 without an ending: part-00000), 3 hidden, named or in folders named . or _ "
        "(_SUCCESS, .cache/y.jsonl, _raw/x.jsonl)"
    ]


@pytest.mark.parametrize("pattern", ["", "**/*.jsonl"], ids=["a folder", "a glob"])
def test_a_link_to_a_folder_is_not_entered_and_told(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, pattern: str
) -> None:
    write_lines(tmp_path / "elsewhere" / "a.jsonl", records(1))
    write_lines(tmp_path / "corpus" / "b.jsonl", records(2))
    (tmp_path / "corpus" / "link").symlink_to(tmp_path / "elsewhere")

    assert texts(tmp_path / "corpus" / pattern) == ["text 2"]
    (line,) = lines(caplog)
    assert line.endswith("are passed over: 1 links to folders (link/)")


def test_a_link_that_the_settings_name_is_followed(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    write_lines(tmp_path / "releases" / "7" / "a.jsonl", records(1))
    (tmp_path / "current").symlink_to(tmp_path / "releases" / "7")

    assert texts(tmp_path / "current") == ["text 1"]
    assert texts(tmp_path / "current" / "*.jsonl") == ["text 1"]
    assert not lines(caplog)


def test_an_object_store_is_told_of_too(caplog: pytest.LogCaptureFixture) -> None:
    memory = fsspec.filesystem("memory")
    for name, text in [("a.jsonl", '{"context": "Tea"}'), ("b.pdf", "?"), ("_raw/c.jsonl", "?")]:
        memory.pipe(f"/passed-over/{name}", text.encode())

    assert texts("memory://passed-over") == ["Tea"]
    (line,) = lines(caplog)
    assert "2 files of the corpus 'memory://passed-over' are passed over: 1 of no known format (1 .pdf" in line


def test_a_folder_of_nothing_else_says_what_there_is(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("text")

    with pytest.raises(SourceError, match=r"matches no file: .* Passed over: 1 of no known format \(1 \.txt: notes"):
        texts(tmp_path)


def test_where_all_is_read_nothing_is_told(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    write_lines(tmp_path / "a.jsonl", records(1))

    assert texts(tmp_path) == ["text 1"]
    assert not lines(caplog)


@pytest.mark.parametrize("name", ["2024-01-01T10::00.jsonl", "std::x.jsonl", "a#b?c=d%20e.jsonl", "memory::x.jsonl"])
@pytest.mark.parametrize("way", ["the folder", "the file", "as an address"])
def test_a_name_is_a_name_whatever_is_in_it(tmp_path: Path, name: str, way: str) -> None:
    path = write_lines(tmp_path / name, records(1))

    assert texts({"the folder": tmp_path, "the file": path, "as an address": f"file://{path}"}[way]) == ["text 1"]
