"""Columns: where a file lacks one, where it lies in an object or in a folder's name, and what the order decides."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from squadron.errors import SourceError
from squadron.settings.registry import load
from squadron.settings.schema import ColumnSettings, SourceSettings
from tests.sources.corpora import read, records, write_lines, write_parquet


def write_csv(path: Path, rows: list[dict[str, Any]]) -> Path:
    path.write_text("\n".join([",".join(rows[0]), *(",".join(map(str, row.values())) for row in rows)]) + "\n")
    return path


def write_json(path: Path, rows: list[dict[str, Any]]) -> Path:
    path.write_text(json.dumps(rows))
    return path


WRITERS: dict[str, Callable[[Path, list[dict[str, Any]]], Path]] = {
    "jsonl": write_lines,
    "csv": write_csv,
    "parquet": write_parquet,
    "json": write_json,
}


def warnings(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in caplog.records if "absent" in record.getMessage()]


@pytest.mark.parametrize("ending", WRITERS)
@pytest.mark.parametrize("lacking", ["a", "m", "z"])
def test_an_optional_column_that_one_file_lacks_is_null_there_with_a_line(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, ending: str, lacking: str
) -> None:
    for name in ("a", "m", "z"):
        author = {} if name == lacking else {"author": name}
        WRITERS[ending](tmp_path / f"{name}.{ending}", records(1, **author))

    rows, unread = read(tmp_path, metadata=("author",))

    assert not unread
    assert [row["author"] for row in rows] == [None if name == lacking else name for name in ("a", "m", "z")]
    assert warnings(caplog) == [
        "column 'author' (source.columns.metadata) is absent from 1 of 3 files, and null there: "
        f"{tmp_path}/{lacking}.{ending}"
    ]


@pytest.mark.parametrize("role", ["title", "question", "question_id"])
def test_so_is_a_role_that_need_not_be_there(tmp_path: Path, caplog: pytest.LogCaptureFixture, role: str) -> None:
    write_lines(tmp_path / "a.jsonl", records(1))
    write_lines(tmp_path / "b.jsonl", records(2, mine="here"))

    rows, _ = read(tmp_path, **{role: "mine"})

    assert [row[role] for row in rows] == [None, "here"]
    assert f"(source.columns.{role}) is absent from 1 of 2 files" in warnings(caplog)[0]


def test_a_column_that_no_file_has_is_refused(tmp_path: Path) -> None:
    for name in ("a", "b"):
        write_lines(tmp_path / f"{name}.jsonl", records(1, writer="Ada"))

    with pytest.raises(SourceError, match=r"a\.jsonl has no column 'write', did you mean 'writer'\?.*other of the 2"):
        read(tmp_path, metadata=("write",))


def test_of_one_file_it_is_refused_before_its_rows_are_read(tmp_path: Path) -> None:
    source = SourceSettings(
        name="files",
        path=str(write_parquet(tmp_path / "a.parquet", records(1))),
        columns=ColumnSettings(metadata=("author",)),
    )

    with pytest.raises(SourceError, match="has no column 'author'"):
        next(load("sources", "files").read_rows(source))


def test_titles_and_questions_that_no_file_has_are_not_worth_a_line(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    for name in ("a", "b"):
        (tmp_path / f"{name}.csv").write_text("context\nTea\n")

    assert len(read(tmp_path)[0]) == 2
    assert not warnings(caplog)


@pytest.mark.parametrize("column", ["context", "id"])
def test_a_file_that_lacks_the_texts_or_the_ids_is_refused_wherever_it_stands(tmp_path: Path, column: str) -> None:
    for name in ("a", "m", "z"):
        corpus = tmp_path / name
        for other in ("a", "m", "z"):
            write_lines(corpus / f"{other}.jsonl", records(1) if other != name else [{"id": "d", "context": "x"}])
        row = {"id": "d", "context": "x"}
        del row[column]
        write_lines(corpus / f"{name}.jsonl", [row])

        with pytest.raises(SourceError, match=rf"/{name}\.jsonl has no column '{column}'"):
            read(corpus, document_id="id")


@pytest.mark.parametrize("first", [True, False])
def test_the_order_of_lines_decides_nothing(tmp_path: Path, first: bool) -> None:
    headings = [{"id": f"h{n}", "kind": "section"} for n in range(1500)]
    documents = records(*range(1500), author="Ada")
    lines = [*headings, *documents] if first else [*documents, *headings]

    rows, unread = read(write_lines(tmp_path / "a.jsonl", lines), document_id="id", metadata=("author",))

    assert not unread
    assert sorted((row["document_id"], row["author"]) for row in rows if row["text"]) == sorted(
        (f"d{n}", "Ada") for n in range(1500)
    )


@pytest.mark.parametrize("ending", WRITERS)
def test_a_folders_name_gives_a_column(tmp_path: Path, ending: str) -> None:
    for folder in ("lang=de", "lang=pt%2DBR", "lang=__HIVE_DEFAULT_PARTITION__"):
        (tmp_path / "year=2024" / folder).mkdir(parents=True)
        WRITERS[ending](tmp_path / "year=2024" / folder / f"part-0.{ending}", records(1))

    for pattern in ("", "year=2024", "*/*/*", "**/*"):
        rows, unread = read(f"{tmp_path}/{pattern}", metadata=("lang", "year"))
        assert not unread
        assert [(row["lang"], row["year"]) for row in rows] == [(None, "2024"), ("de", "2024"), ("pt-BR", "2024")]


def test_a_files_own_column_goes_before_its_folders(tmp_path: Path) -> None:
    write_lines(tmp_path / "lang=de" / "a.jsonl", records(1, lang="nds"))

    assert read(tmp_path, metadata=("lang",))[0][0]["lang"] == "nds"


@pytest.mark.parametrize("ending", ["jsonl", "parquet", "json"])
def test_a_dot_reaches_into_objects_for_every_role(tmp_path: Path, ending: str) -> None:
    row = {"doc": {"body": "Tea", "head": {"title": "T"}, "key": "k"}, "meta": {"source": "s", "unused": 1}}
    other = row | {"meta": None}
    WRITERS[ending](tmp_path / f"a.{ending}", [row, other])

    rows, unread = read(
        tmp_path,
        text="doc.body",
        title="doc.head.title",
        document_id="doc.key",
        metadata=("origin=meta.source",),
    )

    assert not unread
    assert [row["origin"] for row in rows] == ["s", None]
    assert {(row["text"], row["title"], row["document_id"]) for row in rows} == {("Tea", "T", "k")}


@pytest.mark.parametrize("ending", WRITERS)
@pytest.mark.parametrize("column", ["_id", "score", "Page No", "page-number", "meta.source", "größe", "a=b"])
def test_a_column_of_any_name_is_stored_under_another(tmp_path: Path, ending: str, column: str) -> None:
    WRITERS[ending](tmp_path / f"a.{ending}", records(1, **{column: "value"}))

    (row,), _ = read(tmp_path, metadata=(f"stored={column}",))

    assert row["stored"] == "value"


@pytest.mark.parametrize("name", ["Page No", "_id", "größe", "meta.source", "1st", "x=", "=x", ""])
def test_a_name_that_a_store_cannot_have_is_refused_and_the_way_out_named(tmp_path: Path, name: str) -> None:
    with pytest.raises(ValueError, match="NAME=COLUMN where the corpus calls it otherwise"):
        read(tmp_path, metadata=(name,))


@pytest.mark.parametrize("entry", ["text=author", "vector=author"])
def test_a_stored_name_may_not_be_one_of_ours_whatever_the_column(tmp_path: Path, entry: str) -> None:
    with pytest.raises(ValueError, match="which Squadron uses itself: rename them, as in source_"):
        read(tmp_path, metadata=(entry,))


def test_ids_that_are_uuids_are_written_as_people_write_them(tmp_path: Path) -> None:
    raw = [bytes(range(65, 81)), b"\xff" * 16, None]  # the first happens to be ASCII
    table = pa.table({"id": pa.array(raw, pa.uuid()), "context": ["A", "B", "C"]})
    write_parquet(tmp_path / "a.parquet", table)
    pa.parquet.write_table(table, tmp_path / "b.parquet", store_schema=False)  # as other engines write it

    rows, unread = read(tmp_path, document_id="id")

    assert {row["document_id"] for row in rows} == {
        "41424344-4546-4748-494a-4b4c4d4e4f50",
        "ffffffff-ffff-ffff-ffff-ffffffffffff",
    }
    assert [item.place.rpartition(", ")[2] for item in unread] == ["row 3", "row 3"]


def test_bytes_that_are_no_text_are_no_ids(tmp_path: Path) -> None:
    table = pa.table({"id": pa.array([b"\x00\x01id", b"plain"], pa.binary()), "context": ["A", "B"]})
    write_parquet(tmp_path / "a.parquet", table)
    write_parquet(tmp_path / "c" / "a.parquet", table.set_column(0, "id", pa.array([b"ab", b"cd"], pa.binary(2))))

    rows, (item,) = read(tmp_path / "a.parquet", document_id="id")
    with pytest.raises(SourceError, match=r"column 'id' holds fixed_size_binary\[2\], wanted text"):
        read(tmp_path / "c", document_id="id")

    assert [row["document_id"] for row in rows] == ["plain"]
    assert item.place.endswith("row 1")
