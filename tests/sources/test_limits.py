"""Limits: what is too long, too large or too deep is one row or one file in quarantine, and nothing of it is held."""

import bz2
import gzip
import json
import lzma
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pytest

from squadron.errors import SourceError
from tests.sources.corpora import read, records, write_lines, write_parquet

DEEP = 200_000


def good(folder: Path) -> None:
    write_lines(folder / "good.jsonl", records(1))


def test_a_line_that_is_too_long_is_told_and_the_next_one_read(tmp_path: Path) -> None:
    write_lines(tmp_path / "a.jsonl", [*records(1), *records(2, context="x" * 2000), *records(3)])

    rows, (item,) = read(tmp_path, max_line_bytes=1000)

    assert [row["text"] for row in rows] == ["text 1", "text 3"]
    assert str(item) == f"{tmp_path}/a.jsonl, line 2: longer than source.max_line_bytes = 1000"


def test_a_line_of_exactly_the_limit_is_read(tmp_path: Path) -> None:
    path = write_lines(tmp_path / "a.jsonl", records(1, 2))
    longest = len(path.read_bytes()) // 2 - 1

    assert len(read(tmp_path, max_line_bytes=longest)[0]) == 2
    assert len(read(tmp_path, max_line_bytes=longest - 1)[1]) == 2


@pytest.mark.parametrize(
    ("ending", "reason"),
    [
        (
            "jsonl",
            "has a line, 2, of more than 16 times source.max_line_bytes = 1000 (rows before that place were read)",
        ),
        ("csv", "has a line, 2, of more than source.max_line_bytes = 1000"),
    ],
)
def test_a_line_without_an_end_ends_its_file_and_no_other(tmp_path: Path, ending: str, reason: str) -> None:
    good(tmp_path)
    with (tmp_path / f"endless.{ending}").open("wb") as file:
        file.write(b'{"id": "d0", "context": "text 0"}\n' if ending == "jsonl" else b"id,context\n")
        file.truncate(1 << 40)  # a hole: a terabyte of nothing

    rows, items = read(tmp_path, max_line_bytes=1000)

    assert "text 1" in [row["text"] for row in rows]
    assert [item.reason for item in items if item.files] == [reason]


@pytest.mark.parametrize("ending", ["jsonl", "csv", "parquet", "json"])
def test_a_document_that_is_too_long_is_told_by_its_id(tmp_path: Path, ending: str) -> None:
    rows = [*records(1), *records(2, context="ö" * 51), *records(3, context="ö" * 50)]
    path = tmp_path / f"a.{ending}"
    if ending == "jsonl":
        write_lines(path, rows)
    elif ending == "parquet":
        write_parquet(path, rows)
    elif ending == "json":
        path.write_text(json.dumps(rows))
    else:
        path.write_text("id,context\n" + "".join(f"{row['id']},{row['context']}\n" for row in rows), encoding="utf-8")

    read_rows, (item,) = read(path, document_id="id", max_document_bytes=100)

    assert [row["document_id"] for row in read_rows] == ["d1", "d3"]
    assert item.document_id == "d2"
    assert item.reason == "the text has 102 bytes, source.max_document_bytes = 100 allows no more"


@pytest.mark.parametrize("pack", [gzip.compress, bz2.compress, lzma.compress], ids=["gz", "bz2", "xz"])
@pytest.mark.parametrize("ending", ["jsonl", "csv", "json", "parquet"])
def test_a_packed_file_is_not_unpacked_without_end(tmp_path: Path, pack: Callable[[bytes], bytes], ending: str) -> None:
    good(tmp_path)
    packed = {gzip.compress: "gz", bz2.compress: "bz2", lzma.compress: "xz"}[pack]
    content = {"jsonl": b"\n", "csv": b"id,context\n", "json": b" ", "parquet": b"PAR1"}[ending]
    (tmp_path / f"bomb.{ending}.{packed}").write_bytes(pack(content * 3_000_000))

    rows, (item,) = read(tmp_path, max_unpacked_bytes=1_000_000)

    assert [row["text"] for row in rows] == ["text 1"]
    assert item.reason.startswith("is larger, unpacked, than source.max_unpacked_bytes = 1000000")


def test_a_bomb_is_not_held_in_memory(tmp_path: Path) -> None:
    good(tmp_path)
    for name in ("bomb.jsonl.gz", "bomb.json.gz", "bomb.csv.gz"):
        with gzip.open(tmp_path / name, "wb", compresslevel=1) as file:
            for _ in range(600):
                file.write(bytes(1 << 20))
    code = (
        "import resource, sys\n"
        "from squadron.settings.schema import SourceSettings\n"
        "from squadron.sources.files_source import read_rows\n"
        "resource.setrlimit(resource.RLIMIT_AS, (3 << 30, 3 << 30))\n"
        "before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss\n"
        "limits = {'max_line_bytes': 1 << 24, 'max_json_bytes': 1 << 24}\n"
        "items = list(read_rows(SourceSettings(name='files', path=sys.argv[1], **limits)))\n"
        "print(len(items), (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) // 1024)\n"
    )
    ran = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path)], capture_output=True, text=True, check=True, timeout=300
    )
    items, grown_mib = map(int, ran.stdout.split())

    assert items >= 4
    assert grown_mib < 250


def test_parquet_of_too_many_unpacked_bytes_is_not_read(tmp_path: Path) -> None:
    good(tmp_path)
    texts = [f"{n} " + "x" * 10_000 for n in range(200)]
    write_parquet(tmp_path / "bomb.parquet", pa.table({"context": texts, "other": ["y" * 10_000] * 200}))

    _, (item,) = read(tmp_path, max_unpacked_bytes=1_000_000)
    rows, _ = read(tmp_path, max_unpacked_bytes=3_000_000)

    assert item.reason.endswith("bytes unpacked, source.max_unpacked_bytes = 1000000 allows no more")
    assert len(rows) == 201


def test_json_that_must_be_held_as_a_whole_has_a_limit(tmp_path: Path) -> None:
    good(tmp_path)
    (tmp_path / "large.json").write_text(json.dumps(records(*range(100)), indent=1))

    rows, (item,) = read(tmp_path, max_json_bytes=1000)

    assert [row["text"] for row in rows] == ["text 1"]
    assert "is JSON of more than source.max_json_bytes = 1000" in item.reason


@pytest.mark.parametrize("opening", ['{"a":', "["])
@pytest.mark.parametrize("ending", ["json", "jsonl", "json.gz"])
def test_json_that_is_too_deep_is_told(tmp_path: Path, opening: str, ending: str) -> None:
    good(tmp_path)
    content = (opening * DEEP).encode()
    (tmp_path / f"deep.{ending}").write_bytes(gzip.compress(content) if ending.endswith("gz") else content)

    rows, (item,) = read(tmp_path)

    assert [row["text"] for row in rows] == ["text 1"]
    assert "not JSON" in item.reason


def test_a_line_of_countless_keys_does_not_make_the_message_long(tmp_path: Path) -> None:
    lines = [{f"key {n} {i}" * 50: 1 for i in range(20)} for n in range(200)]
    write_lines(tmp_path / "a.jsonl", lines)

    with pytest.raises(SourceError) as refused:
        read(tmp_path)

    assert len(str(refused.value)) < 1000 + len(os.fspath(tmp_path))
