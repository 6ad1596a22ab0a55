"""JSON is read however it is laid out: a list, one object on a line, over many lines, one alone, packed or not."""

import gzip
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from squadron.errors import SourceError
from tests.sources.corpora import read, records, texts

Layout = Callable[[list[dict[str, Any]]], str]
LAYOUTS: dict[str, Layout] = {
    "a list": json.dumps,
    "a list over many lines": lambda rows: json.dumps(rows, indent=2),
    "lines": lambda rows: "".join(json.dumps(row) + "\n" for row in rows),
    "lines that end as on Windows": lambda rows: "".join(json.dumps(row) + "\r\n" for row in rows),
    "objects over many lines": lambda rows: "".join(json.dumps(row, indent=1) + "\n" for row in rows),
    "objects one after the other": lambda rows: "".join(map(json.dumps, rows)),
    "lines after a mark": lambda rows: "\ufeff" + "".join(json.dumps(row) + "\n" for row in rows),
    "a list after a mark and blanks": lambda rows: "\ufeff\n  " + json.dumps(rows, indent=2),
}


@pytest.mark.parametrize("count", [2, 3000])
@pytest.mark.parametrize(
    ("layout", "ending"),
    [(layout, ending) for layout in LAYOUTS for ending in ("json", "json.gz")]
    + [(layout, ending) for layout in LAYOUTS if "one after" not in layout for ending in ("jsonl", "ndjson")],
)
def test_every_layout_gives_the_same_rows(tmp_path: Path, layout: str, count: int, ending: str) -> None:
    content = LAYOUTS[layout](records(*range(count))).encode()
    (tmp_path / f"a.{ending}").write_bytes(gzip.compress(content) if ending.endswith("gz") else content)

    assert texts(tmp_path) == [f"text {n}" for n in range(count)]


@pytest.mark.parametrize("indent", [None, 2])
def test_a_file_may_be_one_document(tmp_path: Path, indent: int | None) -> None:
    for number in range(3):
        (tmp_path / f"{number}.json").write_text(json.dumps(records(number)[0], indent=indent))

    assert texts(tmp_path) == ["text 0", "text 1", "text 2"]


def test_long_first_lines_are_read_in_every_layout(tmp_path: Path) -> None:
    long = records(1, 2, context="x" * 100_000)
    (tmp_path / "a.json").write_text(json.dumps(long))
    (tmp_path / "b.json").write_text("".join(json.dumps(row) + "\n" for row in long))
    (tmp_path / "c.jsonl").write_text(json.dumps(long))

    assert texts(tmp_path) == ["x" * 100_000] * 6


@pytest.mark.parametrize("ending", ["json", "jsonl"])
def test_of_lines_a_broken_one_is_told_and_the_others_are_read(tmp_path: Path, ending: str) -> None:
    lines = [json.dumps(row) for row in records(*range(5))]
    (tmp_path / f"a.{ending}").write_text("\n".join([*lines[:3], '{"id"', *lines[3:]]))

    rows, (item,) = read(tmp_path / f"a.{ending}")

    assert len(rows) == 5
    assert item.place == f"{tmp_path}/a.{ending}, line 4"


def test_a_list_as_the_first_of_many_lines_is_told_and_the_second_line_is_read(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text("[1]\n" + "".join(json.dumps(row) + "\n" for row in records(1, 2, 3)))

    rows, (item,) = read(tmp_path)

    assert [row["text"] for row in rows] == ["text 1", "text 2", "text 3"]
    assert item.place.endswith("a.jsonl, line 1")


def test_what_is_no_object_in_a_list_is_told_with_its_row(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text(json.dumps([*records(1), "Tea", *records(2)]))

    rows, (item,) = read(tmp_path)

    assert [row["text"] for row in rows] == ["text 1", "text 2"]
    assert str(item) == f"{tmp_path}/a.json, row 2: wanted a JSON object, found str"


def test_other_json_says_what_is_wanted(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text('{"rows": [{"context": "Tea"}]}')

    with pytest.raises(SourceError, match=r"is not SQuAD's JSON \(KeyError: 'data'\): wanted SQuAD's data > .* a list"):
        read(tmp_path)


def test_the_header_of_a_joined_csv_file_is_no_document(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    part = "id,title,context\n{0},T,text {0}\n"
    (tmp_path / "a.csv").write_text(part.format(1) + "\ufeff" + part.format(2) + part.format(3), encoding="utf-8")

    rows, unread = read(tmp_path, document_id="id")

    assert [(row["document_id"], row["text"]) for row in rows] == [(f"{n}", f"text {n}") for n in (1, 2, 3)]
    assert not unread
    assert f"{tmp_path}/a.csv: its header stands 2 times among its rows, and is no document" in caplog.text
