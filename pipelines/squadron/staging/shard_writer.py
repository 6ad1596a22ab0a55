"""Shard writer: passages go into files of a bounded number of rows, whatever the batches they come in."""

import fsspec
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet

from squadron.process.atomic_file import AtomicFile
from squadron.staging.shards import SHARD, SPENT, Shard, remove, reported

ROWS_PER_GROUP = 4_096


class ShardWriter:
    """Writes passages into shards of at most `shard_passages`; holds a few thousand of them in memory."""

    def __init__(self, folder: str, shard_passages: int) -> None:
        self._folder = folder
        self._limit = shard_passages
        self._file: _ShardFile | None = None
        self._shards: list[Shard] = []

    def add(self, passages: pa.Table) -> None:
        """Take passages; a shard that is full is there for its readers."""
        while passages.num_rows:
            if self._file is None:
                path = f"{self._folder}/{SHARD}{len(self._shards):05d}.parquet"
                self._file = _ShardFile(path, len(self._shards), passages.schema)
            room = self._limit - self._file.passages
            self._file.add(passages.slice(0, room))
            passages = passages.slice(room)
            if self._file.passages == self._limit:
                self._close_file()

    def close(self) -> list[Shard]:
        """Finish the last shard, and return all of them."""
        if self._file is not None:
            self._close_file()
        return self._shards

    def restarted(self) -> "ShardWriter":
        """Another writer in the place of this one, whose shards are removed."""
        self.close()
        remove(self._folder, but=SPENT)
        return ShardWriter(self._folder, self._limit)

    def _close_file(self) -> None:
        if self._file is not None:
            self._shards.append(self._file.close())
            self._file = None


class _ShardFile:
    """One shard while it is written, a row group at a time."""

    def __init__(self, path: str, number: int, schema: pa.Schema) -> None:
        self._path, self._number = path, number
        filesystem, target = fsspec.core.url_to_fs(path)
        with reported(path):
            self._staged = AtomicFile(filesystem, target)
        self._writer = pyarrow.parquet.ParquetWriter(self._staged.file, schema, compression="zstd")
        self._waiting: list[pa.Table] = []
        self._tokens = 0
        self.passages = 0

    def add(self, passages: pa.Table) -> None:
        self._waiting.append(passages)
        self._tokens += pc.sum(passages["tokens"]).as_py() or 0
        self.passages += passages.num_rows
        if sum(table.num_rows for table in self._waiting) >= ROWS_PER_GROUP:
            self._write()

    def close(self) -> Shard:
        self._write()
        with reported(self._path):
            self._writer.close()
            self._staged.publish()
        return Shard(self._path, self._number, self.passages, self._tokens)

    def _write(self) -> None:
        if self._waiting:
            with reported(self._path):
                self._writer.write_table(pa.concat_tables(self._waiting))
            self._waiting = []
