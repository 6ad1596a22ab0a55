"""Outsiders: who writes into a corpus cannot have other files read, nor a run held up."""

import os
import socket
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet
import pytest

from squadron.errors import SourceError
from squadron.settings.allowed_paths import VARIABLE
from tests.sources.corpora import read, records, texts, write_lines, write_parquet

SECRET = "sk-s3cr3t"


def link_out(path: Path) -> None:
    path.symlink_to(write_lines(path.parent.parent / "private" / "keys.jsonl", records(7, context=SECRET)))


def link_to_link_out(path: Path) -> None:
    link_out(path.parent / "step")
    path.symlink_to("step")


def environment(path: Path) -> None:
    path.symlink_to("/proc/self/environ")


def endless_device(path: Path) -> None:
    path.symlink_to("/dev/zero")


def pipe(path: Path) -> None:
    os.mkfifo(path)


def unix_socket(path: Path) -> None:
    os.chdir(path.parent)
    socket.socket(socket.AF_UNIX).bind(path.name)


@pytest.mark.parametrize("ending", ["jsonl", "csv", "json", "parquet", "jsonl.gz"])
@pytest.mark.parametrize(
    ("made", "reason"),
    [
        (link_out, "is a link that leaves "),
        (link_to_link_out, "is a link that leaves "),
        (environment, "is a link that leaves "),
        (endless_device, "is a link that leaves "),
        (pipe, "is a pipe, and is not opened: wanted a regular file"),
        (unix_socket, "is a socket, and is not opened: wanted a regular file"),
    ],
)
def test_what_is_no_file_of_the_folder_is_quarantined_unread(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, made: Callable[[Path], None], reason: str, ending: str
) -> None:
    monkeypatch.chdir(tmp_path)
    write_lines(tmp_path / "corpus" / "good.jsonl", records(1))
    made(tmp_path / "corpus" / f"a.{ending}")

    rows, (item,) = read(tmp_path / "corpus")

    assert [row["text"] for row in rows] == ["text 1"]
    assert item.place == f"{tmp_path}/corpus/a.{ending}"
    assert item.reason.startswith(reason)
    assert item.files == 2


@pytest.mark.parametrize("made", [environment, endless_device])
def test_even_where_every_path_is_allowed_the_kernel_and_devices_are_not_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, made: Callable[[Path], None]
) -> None:
    monkeypatch.setenv(VARIABLE, "*")
    monkeypatch.setenv("OPENAI_API_KEY", SECRET)
    write_lines(tmp_path / "corpus" / "good.jsonl", records(1))
    made(tmp_path / "corpus" / "a.csv")

    _, (item,) = read(tmp_path / "corpus")

    assert item.reason.endswith("and is not opened: wanted a regular file")
    assert SECRET not in item.reason


@pytest.mark.parametrize("made", [environment, pipe])
def test_the_only_file_is_refused(tmp_path: Path, made: Callable[[Path], None]) -> None:
    made(tmp_path / "a.csv")

    with pytest.raises(SourceError, match=r"a\.csv is .* is not opened: wanted a regular file"):
        read(tmp_path / "a.csv")


def test_a_link_within_the_folder_is_read(tmp_path: Path) -> None:
    write_lines(tmp_path / "corpus" / ".versions" / "7.jsonl", records(1))
    (tmp_path / "corpus" / "a.jsonl").symlink_to(".versions/7.jsonl")

    assert texts(tmp_path / "corpus") == ["text 1"]


def test_a_link_into_an_allowed_folder_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "corpus").mkdir()
    link_out(tmp_path / "corpus" / "a.jsonl")
    monkeypatch.setenv(VARIABLE, f"s3://bucket {tmp_path}/private")

    assert texts(tmp_path / "corpus") == [SECRET]


def test_a_snapshot_of_the_hubs_cache_is_read_though_its_files_lie_beside_it(tmp_path: Path) -> None:
    repository = tmp_path / "datasets--acme--books"
    write_lines(repository / "blobs" / "0123", records(1))
    snapshot = repository / "snapshots" / ("a" * 40)
    snapshot.mkdir(parents=True)
    (snapshot / "a.jsonl").symlink_to("../../blobs/0123")

    assert texts(snapshot) == ["text 1"]


@pytest.mark.xdist_group("datasets")
def test_a_copy_of_a_data_set_with_a_link_that_leaves_it_is_refused(tmp_path: Path) -> None:
    write_parquet(tmp_path / "copy" / "train-0.parquet", records(1))
    (tmp_path / "copy" / "train-1.parquet").symlink_to(write_parquet(tmp_path / "private.parquet", records(2)))

    with pytest.raises(SourceError, match=r"train-1\.parquet is a link that leaves "):
        read(tmp_path / "copy", "squad")


def test_names_of_columns_in_messages_are_cut_escaped_and_few(tmp_path: Path) -> None:
    header = ["A=1\0B=2", "x" * 500, "two\\nlines", *(f"c{n}" for n in range(50))]
    (tmp_path / "a.csv").write_text(",".join(header) + "\n")
    names = {"first\nsecond": ["1"], "\x1b[31mred": ["2"]}
    pa.parquet.write_table(pa.table(names), tmp_path / "b.parquet")

    with pytest.raises(SourceError) as csv_error:
        read(tmp_path / "a.csv")
    with pytest.raises(SourceError) as parquet_error:
        read(tmp_path / "b.parquet")

    assert "Its columns are: A=1\\x00B=2, " in str(csv_error.value)
    assert "x" * 39 + "…" in str(csv_error.value)
    assert "c6 and 43 more. Say with" in str(csv_error.value)
    assert "Its columns are: first\\nsecond, \\x1b[31mred." in str(parquet_error.value)
