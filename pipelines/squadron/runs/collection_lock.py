"""Locking: one run of a collection at a time on this machine.

Of two runs at once the one that planned first ends with an error, for its plan is out of date (`planned_generation`).
That neither needs to begin: in Airflow the DAG has one active run, and the command line, which repairs as well, takes
this lock. It lies in the staging folder and ends with the process, however that ends. In an object store there is none.
"""

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path

from squadron.errors import StoreError
from squadron.settings.schema import Settings


@contextmanager
def only_run(settings: Settings) -> Iterator[None]:
    """Hold the collection's lock. Raises StoreError, saying who holds it, when another process does."""
    staging = settings.ingest.staging.removeprefix("file://")
    if "://" in staging:
        yield
        return
    path = Path(staging, f"{settings.collection}.lock")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        descriptor = _locked(path, settings.collection)
    except OSError as error:
        raise StoreError(f"ingest.staging: {path} cannot be written: {error.strerror or error}") from error
    try:
        with suppress(OSError):  # a full disk: the lock holds without the name of its holder
            os.ftruncate(descriptor, 0)
            os.write(descriptor, f"process {os.getpid()} since {datetime.now(UTC):%Y-%m-%d %H:%M:%S} UTC".encode())
        yield
    finally:
        path.unlink(missing_ok=True)  # while it is held: who waits for it sees that it is not this file any more
        os.close(descriptor)


def _locked(path: Path, collection: str) -> int:
    """The open file, locked, which is at its path still."""
    while True:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            holder = os.read(descriptor, 200).decode(errors="replace") or "another process"
            os.close(descriptor)
            raise StoreError(
                f"a run of collection {collection!r} is under way ({holder}; {path}): nothing was done. "
                "Wait for its end, then run this again"
            ) from None
        if path.exists() and os.fstat(descriptor).st_ino == path.stat().st_ino:
            return descriptor
        os.close(descriptor)  # whoever held it has removed it meanwhile
