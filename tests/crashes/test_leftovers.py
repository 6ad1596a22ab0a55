"""What dead runs left in staging is removed by later ones; what a run may come back to is not."""

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from squadron.staging import abandoned as leftovers
from squadron.staging import shards as staging


def folder_of(run: str, root: Path, age_days: float = 0) -> Path:
    """A run's folder with a shard in it, written so long ago."""
    folder = Path(staging.run_folder(str(root), "books", run))
    (folder / "spent").mkdir(parents=True)
    written = time.time() - age_days * 86_400
    for path in (folder / "shard-00000.parquet", folder / "spent" / "shard-00000.parquet.part", folder):
        if path != folder:
            path.write_bytes(b"rows")
        os.utime(path, (written, written))
    return folder


@pytest.fixture
def dead() -> str:
    """The id of a run of a process that has ended."""
    code = "from squadron.staging import abandoned; print(abandoned.process_run_id())"
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.strip()


def test_the_folder_of_a_process_that_is_gone_is_removed(tmp_path: Path, dead: str) -> None:
    left = folder_of(dead, tmp_path)

    assert leftovers.collect(str(tmp_path), "books") == [left.name]
    assert not left.exists()


def test_the_folder_of_a_process_that_runs_is_kept(tmp_path: Path) -> None:
    kept = folder_of(leftovers.process_run_id(), tmp_path)

    assert leftovers.collect(str(tmp_path), "books") == []
    assert (kept / "shard-00000.parquet").exists()


@pytest.mark.parametrize("run", ["cli_20260101T000000000000_another-machine_1", "scheduled__2026-01-01T00:00:00+00:00"])
def test_other_folders_are_removed_when_nothing_was_written_to_them_for_long(tmp_path: Path, run: str) -> None:
    young = folder_of(run, tmp_path, age_days=leftovers.ABANDONED_DAYS - 1)
    assert leftovers.collect(str(tmp_path), "books") == []
    assert young.exists()

    old = folder_of(run + "2", tmp_path, age_days=leftovers.ABANDONED_DAYS + 1)
    assert leftovers.collect(str(tmp_path), "books") == [old.name]
    assert young.exists()


def test_other_collections_and_files_are_left_alone(tmp_path: Path, dead: str) -> None:
    Path(staging.run_folder(str(tmp_path), "letters", dead)).mkdir(parents=True)
    (tmp_path / "books").mkdir()
    (tmp_path / "books" / dead).write_bytes(b"a file")

    assert leftovers.collect(str(tmp_path), "books") == []
    assert leftovers.collect(str(tmp_path / "absent"), "books") == []
    assert (tmp_path / "letters" / dead).exists()
