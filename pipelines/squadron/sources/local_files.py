"""Local files: those of a disk that a path, a folder or a glob stands for, and how they are opened.

Who writes documents into a corpus may not choose what else is read: a link that leaves the folder that the settings
name, a device, a pipe and the kernel's own files are not opened.
"""

import os
import re
import stat
from collections.abc import Iterator
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from pathlib import Path
from typing import IO

from fsspec.utils import glob_translate

from squadron.errors import SourceError
from squadron.settings.allowed_paths import is_allowed
from squadron.sources.corpus_file import BrokenFileError
from squadron.sources.formats import reader_of
from squadron.sources.lake_tables import folders_above, refuse_iceberg, refuse_table
from squadron.sources.passed_over import PassedOver
from squadron.sources.unpacked import BUFFER_BYTES

KERNEL_FOLDERS = ("/proc", "/sys")


@dataclass
class LocalFiles:
    """The files of a corpus on a disk."""

    root: str
    """The folder that the settings name, links resolved; or the file."""
    paths: list[str] = field(default_factory=list)
    closed: dict[str, str] = field(default_factory=dict)
    """Folders that this user may not list, and why: their documents are missing."""
    passed_over: PassedOver = field(default_factory=PassedOver)

    def open(self, path: str) -> IO[bytes]:
        """A file's bytes. Raises BrokenFileError when it is a link that leads elsewhere, or no regular file."""
        target = os.path.realpath(path)
        if not Path(target).is_relative_to(self.root) and not is_allowed(target):
            raise BrokenFileError(
                f"is a link that leaves {self.root}, and is not followed: put the file itself there, or have "
                "SQUADRON_ALLOWED_PATHS name the folder that it leads to"
            )
        _refuse_special(Path(target).stat())  # opening some devices is an act
        # Without O_NONBLOCK a pipe, which took the file's place since, is waited for.
        file = os.fdopen(os.open(target, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC), "rb", BUFFER_BYTES)
        try:
            _refuse_special(os.fstat(file.fileno()))
        except BrokenFileError:
            file.close()
            raise
        return file


def local_files(pattern: str) -> LocalFiles:
    """The files that a path, a folder or a glob stands for, in the order of their names.

    Raises SourceError for a table of Delta Lake, Iceberg or Hudi.
    """
    place = Path(pattern).expanduser().absolute()
    path = str(place)
    if place.is_dir():
        return _walked(path, None)
    if os.path.lexists(place):
        _refuse_table_above(str(place.parent))
        return LocalFiles(os.path.realpath(path), [path])
    if any(character in path for character in "*?["):
        return _walked(re.split(r"[*?\[]", path)[0].rpartition("/")[0] or "/", path)
    return LocalFiles(path)


def refuse_outsiders(folder: str) -> None:
    """Raise SourceError when a folder that a library reads holds a link that leaves it, or what is no regular file."""
    files = _walked(str(Path(folder).absolute()), None)
    for path in files.paths:
        try:
            files.open(path).close()
        except BrokenFileError as error:
            raise SourceError(f"{path} {error}") from error


def _walked(base: str, pattern: str | None) -> LocalFiles:
    """All files of known formats below a folder; or those that match a pattern."""
    files = LocalFiles(_root(base))
    _refuse_table_above(base)
    matches = re.compile(glob_translate(pattern)).match if pattern else None
    glob_parts = pattern.removeprefix(base).lstrip("/").split("/") if pattern else []

    def note(error: OSError) -> None:
        if not isinstance(error, FileNotFoundError) and not (pattern is None and _hidden(str(error.filename), base)):
            files.closed[str(error.filename)] = f"the folder cannot be listed: {error.strerror or error}"

    for folder, below, names in os.walk(base, onerror=note):
        if not _hidden(folder, base):
            refuse_table(folder, below)
            refuse_iceberg(folder, names)
        if matches:
            parts = [part for part in folder.removeprefix(base).split("/") if part]
            below[:] = [name for name in below if _may_match([*parts, name], glob_parts[:-1])]
        for path, is_link_to_folder in _entries(folder, below, names):
            relative = path.removeprefix(base).lstrip("/")
            if is_link_to_folder:
                files.passed_over.linked_folders.append(f"{relative}/")
            elif matches:
                files.paths += [path] if matches(path) else []
            elif _hidden(path, base):
                files.passed_over.hidden.append(relative)
            elif reader_of(path) is None:
                files.passed_over.unknown.append(relative)
            else:
                files.paths.append(path)
    files.paths.sort()
    return files


def _entries(folder: str, below: list[str], names: list[str]) -> Iterator[tuple[str, bool]]:
    """The paths in a folder that are not entered, and whether they are links to folders."""
    prefix = folder.rstrip("/")
    yield from ((path, True) for name in below if os.path.islink(path := f"{prefix}/{name}"))  # noqa: PTH114 - not of paths that are too long
    yield from ((f"{prefix}/{name}", False) for name in names)


def _root(folder: str) -> str:
    """The folder that links may not leave. The hub's cache keeps the files of a snapshot beside it."""
    real = os.path.realpath(folder)
    repository = re.match(r"(.*/(?:datasets|models)--[^/]+)/snapshots/[0-9a-f]{40}(?:/|$)", real)
    return repository[1] if repository else real


def _may_match(folder: list[str], glob_parts: list[str]) -> bool:
    """Whether a glob looks into a folder."""
    if "**" in glob_parts:
        end = glob_parts.index("**")
        return _may_match(folder[:end], glob_parts[:end]) if len(folder) > end else _may_match(folder, glob_parts[:end])
    return len(folder) <= len(glob_parts) and all(map(fnmatchcase, folder, glob_parts))


def _hidden(path: str, root: str) -> bool:
    """Whether a file in a folder is another program's: `.cache/x.json`, `_metadata.parquet`."""
    return any(part.startswith((".", "_")) for part in path.removeprefix(root).split("/") if part)


def _refuse_table_above(base: str) -> None:
    for folder in folders_above(base):
        try:
            names = [path.name for path in Path(folder).iterdir()]
            metadata = [path.name for path in Path(folder, "metadata").iterdir()] if "metadata" in names else []
        except OSError:  # not there, or closed: whoever reads it reports that
            continue
        refuse_table(folder, names)
        refuse_iceberg(f"{folder}/metadata", metadata)


def _refuse_special(status: os.stat_result) -> None:
    """Raise BrokenFileError for what is no regular file, and for the kernel's, which look like regular ones."""
    kernel = {Path(folder).stat().st_dev for folder in KERNEL_FOLDERS if Path(folder).is_dir()}
    if not stat.S_ISREG(status.st_mode) or status.st_dev in kernel:
        raise BrokenFileError(f"is {_kind(status.st_mode)}, and is not opened: wanted a regular file")


def _kind(mode: int) -> str:
    kinds = {stat.S_ISFIFO: "a pipe", stat.S_ISSOCK: "a socket", stat.S_ISDIR: "a folder"}
    kinds |= {stat.S_ISCHR: "a device", stat.S_ISBLK: "a device"}
    return next((kind for is_kind, kind in kinds.items() if is_kind(mode)), "a file of the kernel")
