"""Unpacked: the bytes of a file, unpacked where its name says so, up to a limit."""

import bz2
import gzip
import io
import lzma
from collections.abc import Callable
from typing import IO, Any

from squadron.sources.corpus_file import BrokenFileError

BUFFER_BYTES = 1 << 17
PACKED: dict[str, Callable[[IO[bytes]], Any]] = {
    ".gz": lambda file: gzip.GzipFile(fileobj=file),
    ".bz2": bz2.BZ2File,
    ".xz": lzma.LZMAFile,
}


def unpacked(file: IO[bytes], path: str, most_bytes: int) -> io.BufferedReader:
    """The file, unpacked by the ending of its path. Raises BrokenFileError when it is read on beyond the limit."""
    for ending, opened in PACKED.items():
        if path.lower().endswith(ending):
            return io.BufferedReader(_Limited(opened(file), most_bytes), BUFFER_BYTES)
    return file if isinstance(file, io.BufferedReader) else io.BufferedReader(_Limited(file, None), BUFFER_BYTES)


class _Limited(io.RawIOBase):
    """A file that is not read beyond a limit."""

    def __init__(self, file: IO[bytes], most_bytes: int | None) -> None:
        self._file = file
        self._most_bytes = most_bytes

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return self._file.seekable()

    def tell(self) -> int:
        return self._file.tell()

    def readinto(self, buffer: Any) -> int:
        content = self._file.read(len(buffer))
        if self._most_bytes is not None and self._file.tell() > self._most_bytes:
            raise BrokenFileError(f"is larger, unpacked, than source.max_unpacked_bytes = {self._most_bytes}")
        buffer[: len(content)] = content
        return len(content)

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        if whence == io.SEEK_END and self._most_bytes is not None:  # nobody knows where the end is, but by reading
            while self.read(BUFFER_BYTES):
                pass
            return self._file.seek(self._file.tell() + offset)
        return self._file.seek(offset, whence)
