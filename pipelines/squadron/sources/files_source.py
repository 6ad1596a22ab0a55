"""Files: parquet, JSON, JSON lines, CSV or SQuAD's own JSON, by path, folder, glob or fsspec URI."""

import lzma
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import IO

import fsspec
import pyarrow as pa
from fsspec.implementations.local import LocalFileSystem

from squadron.errors import SourceError, UnreachableSourceError
from squadron.settings.addresses import without_secrets
from squadron.settings.schema import SourceSettings
from squadron.sources.columns import FileColumns, shown
from squadron.sources.corpus_file import BrokenFileError, CorpusFile, folder_values
from squadron.sources.formats import endings, reader_of
from squadron.sources.local_files import LocalFiles, local_files
from squadron.sources.passed_over import PassedOver
from squadron.sources.remote_files import RemoteFiles, remote_files
from squadron.sources.rows import Unreadable, readable_rows
from squadron.sources.unpacked import unpacked


@dataclass(frozen=True)
class _Listing:
    """The files of a corpus by their paths, and how each is opened."""

    paths: dict[str, str]
    """Path -> path or address as messages show it."""
    open: Callable[[str], IO[bytes]]
    closed: dict[str, str]
    """Folders that cannot be listed, and why."""
    passed_over: PassedOver


def read_rows(source: SourceSettings) -> Iterator[pa.RecordBatch | Unreadable]:
    """The rows of every matching file, files in the order of their names, in batches of at most 1,000.

    What cannot be read comes as `Unreadable`, before the rows that follow it: a row; a file, or the rest of it, where
    there are others; a folder below the one that the settings name. Files that are passed over are counted in the log.
    Raises SourceError when nothing matches, a file is of no known format, lacks the text or the ids, or no file has
    another column that the settings name, and when the only file is broken.
    """
    if source.revision:
        raise SourceError(
            f"source.revision is {source.revision!r}, and source.name=files reads files as they are: unset it. Of a "
            "data set of the hub, write the revision into source.path, hf://datasets/ORG/NAME@REVISION/..."
        )
    listing = _listing(source.path or "")  # settings see to it that there is one
    listing.passed_over.report(repr(without_secrets(source.path or "")))
    files = len(listing.paths) + len(listing.closed)
    file_columns = FileColumns(source.columns, files)
    yield from (Unreadable(f"{shown(folder, 300)}/", why, files=files) for folder, why in listing.closed.items())
    try:
        for path, shown_path in listing.paths.items():
            corpus_file = CorpusFile(shown_path, source, file_columns, folder_values(path))
            yield from read_file(path, corpus_file, listing.open, files)
    finally:
        file_columns.report()
    file_columns.require()


def read_file(
    path: str, corpus_file: CorpusFile, opened: Callable[[str], IO[bytes]], files: int = 1
) -> Iterator[pa.RecordBatch | Unreadable]:
    """The rows of one file of so many; its name's ending says the format, and how it is packed."""
    reader, rows_read = reader_of(path), False
    if reader is None:
        raise SourceError(f"{corpus_file.shown_path} is of no known format: wanted a name that ends in {endings()}")
    try:
        with opened(path) as file, unpacked(file, path, corpus_file.source.max_unpacked_bytes) as content:
            for piece in reader(content, corpus_file):
                if isinstance(piece, Unreadable):
                    yield piece
                else:
                    yield from readable_rows(piece, corpus_file.source)
                    rows_read = True
        return
    except MemoryError:
        raise
    except (pa.ArrowException, EOFError, zlib.error, lzma.LZMAError, OSError) as error:
        reason, cause = f"cannot be read, is it complete? {_reason(error)}", error
    except BrokenFileError as error:
        reason, cause = str(error), error
    if files == 1:
        raise SourceError(f"{corpus_file.shown_path} {reason}") from cause
    if rows_read:
        reason += " (rows before that place were read)"
    yield Unreadable(corpus_file.shown_path, reason, files=files)


def _listing(pattern: str) -> _Listing:
    """The files that a path, a folder or a glob stands for."""
    files = _files(pattern)
    closed = files.closed if isinstance(files, LocalFiles) else {}
    place = repr(without_secrets(pattern))
    if not files.paths and closed:
        raise SourceError("; ".join(f"source.path {place}: {folder}: {reason}" for folder, reason in closed.items()))
    if not files.paths:
        others = f". Passed over: {files.passed_over}" if files.passed_over else ""
        raise SourceError(
            f"source.path {place} matches no file: wanted a file, a glob, or a folder of files "
            f"whose names end in {endings()}{others}"
        )
    if isinstance(files, LocalFiles):
        address = "file://{}" if pattern.startswith("file://") else "{}"
        places = {path: address.format(shown(path, 1000)) for path in files.paths}
        return _Listing(places, files.open, closed, files.passed_over)
    addresses = {path: shown(without_secrets(files.address(path)), 1000) for path in files.paths}
    return _Listing(addresses, files.filesystem.open, closed, files.passed_over)


def _files(pattern: str) -> LocalFiles | RemoteFiles:
    if "://" not in pattern.removeprefix("file://"):  # where two colons stand in a name, they chain nothing
        return local_files(LocalFileSystem._strip_protocol(pattern) if pattern.startswith("file://") else pattern)
    place = repr(without_secrets(pattern))
    try:
        filesystem, root = fsspec.core.url_to_fs(pattern)
    except (ValueError, ImportError) as error:  # no such protocol; its package is not installed
        raise SourceError(f"source.path {place} cannot be opened: {_reason(error)}") from error
    try:
        return remote_files(filesystem, root)
    except SourceError:
        raise
    except Exception as error:  # every protocol's client has errors of its own
        raise UnreachableSourceError(f"source.path {place} cannot be reached: {_reason(error)}") from error


def _reason(error: BaseException) -> str:
    return without_secrets(getattr(error, "strerror", None) or str(error) or type(error).__name__)[:300]
