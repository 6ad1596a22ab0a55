"""Disks: a run whose store, staging or cache is full or read-only is red, says what to do, and its rerun completes."""

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from squadron.cache.files import evict
from squadron.errors import StoreError
from squadron.runs.plan import plan_run
from squadron.runs.whole_run import ingest
from tests.faults.corpora import AFTER, BEFORE, answers, clean_rows, settings_of
from tests.whole_runs import run, stored_rows

PLACES = {"store.lancedb.uri": "lancedb", "ingest.staging": "staging", "cache.path": "cache"}
DISK_BYTES, PAGE_BYTES = 16 << 20, 4096
ROOMS = (4 << 10, 12 << 10, 40 << 10, 120 << 10, 240 << 10)
"""Bytes that are left on the disk: a run meets its end at another point with each of them."""
NEVER = {"guard.max_deleted_fraction": 1.0}


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of its own, small and in memory."""
    place = tmp_path / "disk"
    place.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", f"size={DISK_BYTES}", "tmpfs", str(place)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        pytest.skip(f"no file system can be mounted here: {done.stderr.strip()}")
    yield place
    subprocess.run(["umount", "--lazy", str(place)], check=True)


@contextmanager
def room(disk: Path, size: int) -> Iterator[None]:
    """Only so many bytes are left on the disk."""
    filler = disk / "filler"
    filler.write_bytes(bytes(max(0, os.statvfs(disk).f_bavail * PAGE_BYTES - size)))
    try:
        yield
    finally:
        filler.unlink()


@contextmanager
def read_only(disk: Path) -> Iterator[None]:
    """Nothing can be written to the disk, by nobody."""
    subprocess.run(["mount", "-o", "remount,ro", str(disk)], check=True)
    try:
        yield
    finally:
        subprocess.run(["mount", "-o", "remount,rw", str(disk)], check=True)


@pytest.mark.parametrize(
    ("place", "template"),
    [*((place, "title_text_v1") for place in PLACES), ("store.lancedb.uri", "plain_v1")],  # the last: a new generation
)
def test_a_full_disk_ends_the_run_with_advice_and_the_rerun_is_as_a_clean_build(
    place: str, template: str, disk: Path, tmp_path: Path
) -> None:
    changes: dict[str, Any] = {**NEVER, place: str(disk / PLACES[place])}
    ingest(settings_of(tmp_path, BEFORE, **changes))
    changes["passages.template"] = template
    settings = settings_of(tmp_path, AFTER, **changes)

    told = []
    for size in ROOMS:
        with room(disk, size):
            try:
                ingest(settings)
            except StoreError as error:
                told.append(str(error))
                assert answers(settings)
            else:
                break
    done = ingest(settings)

    assert len(told) >= 2
    for message in told:
        assert "No space left on device" in message
        assert changes[place] in message
        if not place.startswith("store."):
            assert message.startswith(place)
            assert "Make room" in message
    assert done["live"] == done["generation"]
    assert stored_rows(settings, done["live"]) == clean_rows(tmp_path, AFTER, **{"passages.template": template})
    assert not list((tmp_path / "staging").glob("books/*"))


@pytest.mark.parametrize("place", PLACES)
def test_a_read_only_disk_ends_the_run_and_the_rerun_is_as_a_clean_build(
    place: str, disk: Path, tmp_path: Path
) -> None:
    changes: dict[str, Any] = {**NEVER, place: str(disk / PLACES[place])}
    ingest(settings_of(tmp_path, BEFORE, **changes))
    settings = settings_of(tmp_path, AFTER, **changes)
    plan_run(settings, "run")  # another try of the run came as far as this

    with read_only(disk):
        with pytest.raises(StoreError, match="Read-only file system") as refusal:
            run(settings, "run")
        with pytest.raises(StoreError, match="Read-only file system"):
            ingest(settings)
        assert answers(settings)
    run(settings, "run")

    assert changes[place] in str(refusal.value)
    if not place.startswith("store."):
        assert str(refusal.value).startswith(place)
    assert stored_rows(settings, plan_run(settings, "look").generation) == clean_rows(tmp_path, AFTER)


def test_a_read_only_cache_does_not_matter_to_a_run_that_embeds_nothing(disk: Path, tmp_path: Path) -> None:
    settings = settings_of(tmp_path, BEFORE, **{"cache.path": str(disk / "cache")})
    ingest(settings)

    with read_only(disk):
        counts = ingest(settings)["counts"]

    assert (counts["unchanged"], counts["embedded"]) == (len(BEFORE), 0)


def test_a_cache_that_cannot_be_tidied_up_is_named_with_its_setting(disk: Path, tmp_path: Path) -> None:
    settings = settings_of(tmp_path, BEFORE, **{"cache.path": str(disk / "cache")})
    ingest(settings)
    for file in disk.rglob("*.parquet"):
        os.utime(file, (0, 0))

    with read_only(disk), pytest.raises(StoreError, match=r"cache\.path: .*cannot be removed: Read-only file system"):
        evict(str(disk / "cache"), max_age_days=30)
    assert evict(str(disk / "cache"), max_age_days=30) > 0


@pytest.mark.parametrize("place", PLACES)
def test_a_folder_that_may_not_be_written_ends_the_run(place: str, tmp_path: Path) -> None:
    (tmp_path / "closed").mkdir(mode=0o555)
    places = {name: tmp_path / below for name, below in PLACES.items()} | {place: tmp_path / "closed" / "below"}
    pairs = {"collection": "books", "source.name": "sample", "embedding.service": "hashing", **places}
    command = [sys.executable, "-m", "squadron", "ingest", *(f"--set={key}={value}" for key, value in pairs.items())]

    done = subprocess.run([*_as_ordinary_user(), *command], cwd=tmp_path, capture_output=True, text=True)

    assert done.returncode == 1
    assert "Permission denied" in done.stderr
    assert str(tmp_path / "closed") in done.stderr
    assert "is live" not in done.stderr


def _as_ordinary_user() -> list[str]:
    """What to put before a command: root may write where the mode of a folder says no, so it lays that right down."""
    if os.geteuid() != 0:
        return []
    command = ["setpriv", "--bounding-set", "-dac_override,-dac_read_search"]
    if not shutil.which(command[0]) or subprocess.run([*command, "true"], capture_output=True).returncode:
        pytest.skip("root runs the tests, and cannot lay down its rights: setpriv is missing, or may not")
    return command
