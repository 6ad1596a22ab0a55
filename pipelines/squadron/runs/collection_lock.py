"""Locking: one run of a collection at a time on this machine.

Of two runs at once the one that planned first ends with an error, for its plan is out of date (`planned_generation`).
That neither needs to begin: in Airflow the DAG has one active run, and the command line, which repairs as well, takes
this lock. It lies in the staging folder and ends with the process, however that ends. In an object store there is none.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path

from squadron.errors import StoreError
from squadron.settings.schema import Settings

LOCK_TIMEOUT_SECONDS = 0.2
"""A run that ends removes its lock; who opened it in that moment tries again."""


@contextmanager
def only_run(settings: Settings) -> Iterator[None]:
    """Hold the collection's lock. Raises StoreError, saying who holds it, when another process does."""
    staging = settings.ingest.staging.removeprefix("file://")
    if "://" in staging:
        yield
        return
    from filelock import FileLock, Timeout  # 0.03 s, which only runs need

    path = Path(staging, f"{settings.collection}.lock")
    holder = path.with_suffix(".holder")  # not in the lock: Windows lets nobody read what another process has locked
    lock = FileLock(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        lock.acquire(timeout=LOCK_TIMEOUT_SECONDS)
    except Timeout:
        raise _under_way(settings.collection, path, holder) from None
    except OSError as error:
        raise StoreError(f"ingest.staging: {path} cannot be written: {error.strerror or error}") from error
    try:
        with suppress(OSError):  # a full disk: the lock holds without the name of its holder
            holder.write_text(f"process {os.getpid()} since {datetime.now(UTC):%Y-%m-%d %H:%M:%S} UTC")
        yield
    finally:
        for file in (holder, path):  # while the lock is held: who waits for it sees that its file is gone
            with suppress(OSError):
                file.unlink()
        lock.release()


def _under_way(collection: str, path: Path, holder: Path) -> StoreError:
    try:
        process = holder.read_text() or "another process"
    except OSError:  # it has not written down yet who it is
        process = "another process"
    return StoreError(
        f"a run of collection {collection!r} is under way ({process}; {path}): nothing was done. "
        "Wait for its end, then run this again"
    )
