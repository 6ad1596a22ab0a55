"""Shards: passages come out of staging as they went in, and no try sees half of another's file."""

import os
import time
from pathlib import Path

import pyarrow as pa
import pytest

from squadron.errors import StoreError
from squadron.process.atomic_file import PART
from squadron.staging import shards as staging
from squadron.staging.abandoned import ABANDONED_DAYS, sweep
from squadron.staging.shard_writer import ROWS_PER_GROUP, ShardWriter


def passages(*numbers: int) -> pa.Table:
    return pa.table({"id": [f"{number:032x}" for number in numbers], "tokens": list(numbers)})


def ids_of(shard: staging.Shard) -> list[str]:
    return staging.read_table(shard.path)["id"].to_pylist()


def test_shards_are_full_but_for_the_last_and_say_what_is_in_them(tmp_path: Path) -> None:
    writer = ShardWriter(str(tmp_path), 10)
    for start in range(0, 24, 3):
        writer.add(passages(*range(start, start + 3)))
    shards = writer.close()

    assert [(shard.number, shard.passages, shard.tokens) for shard in shards] == [(0, 10, 45), (1, 10, 145), (2, 4, 86)]
    assert [name for shard in shards for name in ids_of(shard)] == passages(*range(24))["id"].to_pylist()
    assert staging.planned_ids(str(tmp_path)).to_pylist() == passages(*range(24))["id"].to_pylist()


def test_more_rows_than_a_row_group_are_read_in_the_pieces_asked_for(tmp_path: Path) -> None:
    writer = ShardWriter(str(tmp_path), 3 * ROWS_PER_GROUP)
    for start in range(0, 2 * ROWS_PER_GROUP, 1_000):
        writer.add(passages(*range(start, start + 1_000)))
    (shard,) = writer.close()

    pieces = [piece.num_rows for piece in staging.read_batches(shard.path, 3_000)]

    assert pieces == [3_000, 3_000, shard.passages - 6_000]


def test_two_tries_of_one_plan_leave_a_shard_that_is_one_of_theirs(tmp_path: Path) -> None:
    first, second = ShardWriter(str(tmp_path), ROWS_PER_GROUP), ShardWriter(str(tmp_path), ROWS_PER_GROUP)
    first.add(passages(*range(2_000)))
    second.add(passages(*range(5)))

    (shard,) = first.close()
    assert len(ids_of(shard)) == 2_000
    (shard,) = second.close()
    assert len(ids_of(shard)) == 5
    assert [path.name for path in tmp_path.iterdir()] == ["shard-00000.parquet"]


def test_a_file_that_is_being_written_is_not_listed(tmp_path: Path) -> None:
    writer = ShardWriter(str(tmp_path), 10)
    writer.add(passages(1))

    assert staging.names(str(tmp_path)) == []
    writer.close()
    assert staging.names(str(tmp_path)) == ["shard-00000.parquet"]


def test_a_shard_that_is_gone_is_told_with_the_setting(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match=r"x\.parquet is not there: staging must be shared .*ingest\.staging"):
        staging.read_table(str(tmp_path / "x.parquet"))


def test_what_killed_writers_left_is_swept_when_it_is_old_and_complete_files_stay(tmp_path: Path) -> None:
    staging.write_table(f"{tmp_path}/folder/complete.parquet", passages(1))
    old, young = (tmp_path / "folder" / f"table.parquet.{number}{PART}" for number in range(2))
    for part in (old, young):
        part.write_bytes(b"half of a table")
    for path in (old, tmp_path / "folder" / "complete.parquet"):
        os.utime(path, (time.time() - (ABANDONED_DAYS + 1) * 86_400,) * 2)

    assert sweep(str(tmp_path)) == 1
    assert sorted(path.name for path in (tmp_path / "folder").iterdir()) == ["complete.parquet", young.name]
    assert sweep(str(tmp_path / "absent")) == 0
