"""Files: parquet, JSONL, CSV or SQuAD's own JSON, by path, folder, glob or fsspec URI."""

import lzma
import os
import re
import zlib
from collections.abc import Iterator
from fnmatch import fnmatchcase
from pathlib import Path

import fsspec
import pyarrow as pa
from fsspec.implementations.local import LocalFileSystem

from squadron.errors import SourceError, UnreachableSourceError
from squadron.settings.addresses import without_secrets
from squadron.settings.schema import ColumnSettings, SourceSettings
from squadron.sources.formats import PACKED, READERS, BrokenFileError, reader_of
from squadron.sources.rows import Unreadable, readable_rows


def read_rows(source: SourceSettings) -> Iterator[pa.RecordBatch | Unreadable]:
    """The rows of every matching file, files in the order of their names, in batches of at most 1,000.

    What cannot be read comes as `Unreadable`, before the rows that follow it: a row; a file, or the rest of it, where
    there are others; a folder below the one that the settings name. Raises SourceError when nothing matches, a file is
    of no known format or has other columns than the settings name, and when the only file is broken.
    """
    paths, closed = _paths(source.path or "")  # settings see to it that there is one
    files = len(paths) + len(closed)
    yield from (Unreadable(f"{folder}/", reason, files=files) for folder, reason in closed.items())
    for path in paths:
        yield from read_file(path, source.columns, files)


def read_file(path: str, columns: ColumnSettings, files: int = 1) -> Iterator[pa.RecordBatch | Unreadable]:
    """The rows of one file of so many; its name's ending says the format, and how it is packed."""
    reader, shown_path, rows_read = reader_of(path), without_secrets(path), False
    if reader is None:
        raise SourceError(f"{shown_path} is of no known format: wanted a name that ends in {_endings()}")
    try:
        with fsspec.open(path, "rb", compression="infer", expand=False) as file:
            for piece in reader(file, shown_path, columns):
                if isinstance(piece, Unreadable):
                    yield piece
                else:
                    yield from readable_rows(piece, columns)
                    rows_read = True
        return
    except MemoryError:
        raise
    except (pa.ArrowException, EOFError, zlib.error, lzma.LZMAError, OSError) as error:
        reason, cause = f"cannot be read, is it complete? {_reason(error)}", error
    except BrokenFileError as error:
        reason, cause = str(error), error
    if files == 1:
        raise SourceError(f"{shown_path} {reason}") from cause
    yield Unreadable(shown_path, f"{reason} (rows before that place were read)" if rows_read else reason, files=files)


def _paths(pattern: str) -> tuple[list[str], dict[str, str]]:
    """The files that a path, a folder or a glob stands for, and the folders that cannot be listed, with the reason."""
    shown = repr(without_secrets(pattern))
    try:
        filesystem, root = fsspec.core.url_to_fs(pattern)
    except (ValueError, ImportError) as error:  # no such protocol; its package is not installed
        raise SourceError(f"source.path {shown} cannot be opened: {_reason(error)}") from error
    try:
        paths = _matching_paths(filesystem, root)
    except Exception as error:  # every protocol's client has errors of its own
        if "://" not in pattern:
            raise
        raise UnreachableSourceError(f"source.path {shown} cannot be reached: {_reason(error)}") from error
    closed = _closed(root) if isinstance(filesystem, LocalFileSystem) and paths != [root] else {}
    if not paths and closed:
        raise SourceError("; ".join(f"source.path {shown}: {folder}: {reason}" for folder, reason in closed.items()))
    if not paths:
        raise SourceError(
            f"source.path {shown} matches no file: wanted a file, a glob, or a folder of files "
            f"whose names end in {_endings()}"
        )
    return [filesystem.unstrip_protocol(path) if "://" in pattern else path for path in sorted(paths)], closed


def _matching_paths(filesystem: fsspec.AbstractFileSystem, root: str) -> list[str]:
    if filesystem.isfile(root):
        return [root]
    if filesystem.isdir(root):
        return [path for path in filesystem.find(root) if reader_of(path) and not _hidden(path, root)]
    # Not "is a file": a link that leads nowhere is to be reported.
    return [path for path in filesystem.glob(root) if not filesystem.isdir(path)] if _is_glob(root) else []


def _closed(root: str) -> dict[str, str]:
    """Folders of a disk that this user may not list: fsspec passes over them, and their documents would be missing.

    Object stores refuse a listing as a whole.
    """
    closed: dict[str, str] = {}
    base = root if Path(root).is_dir() else re.split(r"[*?\[]", root)[0].rpartition("/")[0] or "/"
    glob_parts = root.removeprefix(base).lstrip("/").split("/") if base != root else []

    def note(error: OSError) -> None:
        if not isinstance(error, FileNotFoundError) and not _hidden(str(error.filename), base):
            closed[str(error.filename)] = f"the folder cannot be listed: {_reason(error)}"

    for folder, below, _ in os.walk(base, onerror=note):
        if glob_parts:  # of a glob
            parts = [part for part in folder.removeprefix(base).split("/") if part]
            below[:] = [name for name in below if _may_match([*parts, name], glob_parts[:-1])]
    return closed


def _may_match(folder: list[str], glob_parts: list[str]) -> bool:
    """Whether a glob looks into a folder."""
    if "**" in glob_parts:
        end = glob_parts.index("**")
        return _may_match(folder[:end], glob_parts[:end]) if len(folder) > end else _may_match(folder, glob_parts[:end])
    return len(folder) <= len(glob_parts) and all(map(fnmatchcase, folder, glob_parts))


def _hidden(path: str, root: str) -> bool:
    """Whether a file in a folder is another program's: `.cache/x.json`, `_metadata.parquet`."""
    return any(part.startswith((".", "_")) for part in path.removeprefix(root).split("/") if part)


def _is_glob(path: str) -> bool:
    return any(character in path for character in "*?[")


def _endings() -> str:
    return f"{', '.join(READERS)}, or these and {', '.join(PACKED)}"


def _reason(error: BaseException) -> str:
    return without_secrets(getattr(error, "strerror", None) or str(error) or type(error).__name__)[:300]
