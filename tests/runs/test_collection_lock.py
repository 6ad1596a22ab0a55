"""Locking: of two runs of one collection at once the second is refused, and a killed one is in nobody's way."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

import pytest

from squadron.errors import StoreError
from squadron.runs.collection_lock import only_run
from squadron.runs.verify import verify
from squadron.runs.whole_run import ingest
from squadron.settings.schema import Settings

Changed = Callable[..., Settings]
HOLD = """
import sys
from squadron.runs.collection_lock import only_run
from squadron.settings.schema import Settings
with only_run(Settings.model_validate_json(sys.argv[1])):
    print("held", flush=True)
    sys.stdin.read()
"""


def holder(settings: Settings) -> subprocess.Popen[str]:
    """A process that holds the lock until its input is closed."""
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    process = subprocess.Popen([sys.executable, "-c", HOLD, settings.model_dump_json()], **pipes)
    assert process.stdout is not None
    assert process.stdout.readline() == "held\n"
    return process


def test_a_second_run_of_a_collection_is_refused_and_told_whose_the_first_is(
    settings_with: Changed, tmp_path: Path
) -> None:
    settings = settings_with()
    first = holder(settings)

    with pytest.raises(StoreError, match=rf"collection 'books' is under way \(process {first.pid} since .*nothing was"):
        ingest(settings)

    first.communicate()
    assert ingest(settings)["counts"]["written"] > 0
    assert [path.name for path in (tmp_path / "staging").iterdir() if path.is_file()] == []


def test_a_repair_is_refused_beside_another_run_and_a_look_is_not(settings_with: Changed) -> None:
    settings = settings_with()
    ingest(settings)

    with only_run(settings):
        with pytest.raises(StoreError, match="is under way"):
            verify(settings, repair=True)
        assert verify(settings)["sound"]

    assert verify(settings, repair=True)["sound"]


def test_the_command_line_fails_beside_another_run(settings_with: Changed, tmp_path: Path) -> None:
    settings = settings_with()
    with only_run(settings):
        command = [sys.executable, "-m", "squadron", "ingest"]
        for assignment in ("collection=books", "source.name=sample", f"ingest.staging={tmp_path / 'staging'}"):
            command += ["--set", assignment]
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)

    assert done.returncode == 1
    assert f"process {os.getpid()} since" in done.stderr
    assert done.stdout == ""


def test_waiting_runs_follow_each_other_and_never_overlap(settings_with: Changed) -> None:
    """A lock's file is removed while others open it: none of them may hold what is not there any more."""
    settings, inside, overlaps = settings_with(), [], []

    def take_turns(_: int) -> None:
        taken = 0
        while taken < 20:
            with suppress(StoreError), only_run(settings):
                overlaps.extend(inside)
                inside.append(1)
                time.sleep(0.001)
                inside.pop()
                taken += 1

    with ThreadPoolExecutor(4) as threads:
        list(threads.map(take_turns, range(4)))
    assert overlaps == []


def test_a_lock_that_is_held_without_a_name_is_another_processs(settings_with: Changed, tmp_path: Path) -> None:
    settings = settings_with()
    with only_run(settings):
        (tmp_path / "staging" / "books.holder").unlink()  # a full disk
        with pytest.raises(StoreError, match=r"is under way \(another process; .*books\.lock\)"), only_run(settings):
            pass


def test_a_staging_folder_that_cannot_be_made_is_refused_by_its_setting(settings_with: Changed, tmp_path: Path) -> None:
    (tmp_path / "staging").write_text("a file")
    with (
        pytest.raises(StoreError, match=r"ingest\.staging: .*books\.lock cannot be written"),
        only_run(settings_with()),
    ):
        pass


def test_a_killed_run_leaves_no_lock(settings_with: Changed) -> None:
    settings = settings_with()
    process = holder(settings)
    process.send_signal(signal.SIGKILL)
    process.communicate()

    with only_run(settings):
        pass


def test_runs_of_other_collections_go_on(settings_with: Changed) -> None:
    with only_run(settings_with()), only_run(settings_with(collection="other")):
        pass


def test_a_lock_can_be_taken_again_and_again(settings_with: Changed) -> None:
    for _ in range(3):
        with only_run(settings_with()):
            pass
