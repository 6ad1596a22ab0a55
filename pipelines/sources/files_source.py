"""Files: parquet, JSONL, CSV or SQuAD's own JSON, by path, folder, glob or fsspec URI."""

import lzma
import zlib
from collections.abc import Iterator

import fsspec
import pyarrow as pa

from pipelines.errors import SourceError, UnreachableSourceError
from pipelines.settings import ColumnSettings, SourceSettings
from pipelines.sources.formats import PACKED, READERS, reader_of
from pipelines.sources.rows import renamed_rows


def read_rows(source: SourceSettings) -> Iterator[pa.RecordBatch]:
    """The rows of every matching file, files in the order of their names, in batches of at most 1,000.

    Raises SourceError when nothing matches, a file is of no known format, or a file is broken (with the line).
    """
    for path in _paths(source.path or ""):  # settings see to it that there is one
        yield from read_file(path, source.columns)


def read_file(path: str, columns: ColumnSettings) -> Iterator[pa.RecordBatch]:
    """The rows of one file; its name's ending says the format, and how it is packed."""
    reader = reader_of(path)
    if reader is None:
        raise SourceError(f"{path} is of no known format: wanted a name that ends in {_endings()}")
    row = 1
    try:
        with fsspec.open(path, "rb", compression="infer", expand=False) as file:
            for table in reader(file, path, columns):
                yield renamed_rows(table, columns, path, row)
                row += table.num_rows
    except (pa.ArrowException, EOFError, zlib.error, lzma.LZMAError, OSError) as error:
        raise SourceError(f"{path} cannot be read, is it complete? {_reason(error)}") from error


def _paths(pattern: str) -> list[str]:
    try:
        filesystem, root = fsspec.core.url_to_fs(pattern)
    except (ValueError, ImportError) as error:  # no such protocol; its package is not installed
        raise SourceError(f"source.path {pattern!r} cannot be opened: {error}") from error
    try:
        found = _found(filesystem, root)
    except Exception as error:  # every protocol's client has errors of its own
        if "://" not in pattern:
            raise
        raise UnreachableSourceError(f"source.path {pattern!r} cannot be reached: {_reason(error)}") from error
    if not found:
        raise SourceError(
            f"source.path {pattern!r} matches no file: wanted a file, a glob, or a folder of files "
            f"whose names end in {_endings()}"
        )
    return [filesystem.unstrip_protocol(path) if "://" in pattern else path for path in sorted(found)]


def _found(filesystem: fsspec.AbstractFileSystem, root: str) -> list[str]:
    """The files that a path, a folder or a glob stands for."""
    if filesystem.isfile(root):
        return [root]
    if filesystem.isdir(root):
        return [path for path in filesystem.find(root) if reader_of(path) and not _hidden(path, root)]
    return [path for path in filesystem.glob(root) if filesystem.isfile(path)] if _is_glob(root) else []


def _hidden(path: str, root: str) -> bool:
    """Whether a file in a folder is another program's: `.cache/x.json`, `_metadata.parquet`."""
    return any(part.startswith((".", "_")) for part in path.removeprefix(root).split("/") if part)


def _is_glob(path: str) -> bool:
    return any(character in path for character in "*?[")


def _endings() -> str:
    return f"{', '.join(READERS)}, or these and {', '.join(PACKED)}"


def _reason(error: BaseException) -> str:
    return (getattr(error, "strerror", None) or str(error) or type(error).__name__)[:300]
