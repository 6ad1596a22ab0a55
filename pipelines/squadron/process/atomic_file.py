"""Atomic files: a reader sees all of a file or nothing of it, on a disk and in an object store."""

import uuid
from contextlib import suppress
from types import TracebackType
from typing import Any

PART = ".part"
"""The end of the name of a file that is being written."""


class AtomicFile:
    """A file that appears under its name when it is published, and not before.

    Until then it has a name of its own, so that two writers of one file do not meet: the last one to publish wins.
    As a context manager it publishes at the end of the block, and discards when the block raises. A killed writer
    leaves a file whose name ends in `PART`; `staging.abandoned.sweep` removes it.
    Every method raises OSError when the file system refuses.

        with AtomicFile(filesystem, "folder/table.parquet") as file:
            file.write(b"rows")
    """

    def __init__(self, filesystem: Any, target: str) -> None:
        """`filesystem`: fsspec's; the folder of `target` is created."""
        self._filesystem, self._target = filesystem, target
        self._part = f"{target}.{uuid.uuid4().hex}{PART}"
        filesystem.makedirs(filesystem._parent(target), exist_ok=True)
        self.file = filesystem.open(self._part, "wb")

    def publish(self) -> None:
        """Close the file, and give it its name."""
        self.file.close()
        self._filesystem.mv(self._part, self._target)

    def discard(self) -> None:
        """Close the file, and remove what was written."""
        with suppress(OSError):
            self.file.close()
        with suppress(OSError):
            self._filesystem.rm_file(self._part)

    def __enter__(self) -> Any:
        return self.file

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is not None:
            self.discard()
            return
        try:
            self.publish()
        except BaseException:
            self.discard()
            raise
