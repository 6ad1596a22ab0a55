"""Parquet: the columns that the settings name, of structs too, row group by row group."""

from collections.abc import Iterator
from typing import BinaryIO

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet

from squadron.sources.answered import ANSWERS, IS_IMPOSSIBLE, without_answer
from squadron.sources.columns import wanted_columns
from squadron.sources.corpus_file import BrokenFileError, CorpusFile
from squadron.sources.rows import BATCH_ROWS, Piece

BUFFER_BYTES = 1 << 18
"""Read at once of each column."""


def read_parquet(file: BinaryIO, corpus_file: CorpusFile) -> Iterator[Piece]:
    """The columns that the settings name, of a parquet file."""
    # Read ahead as a whole, as is the default, a file's row groups would stay in memory until its end.
    parquet = pyarrow.parquet.ParquetFile(file, buffer_size=BUFFER_BYTES, pre_buffer=False)
    schema, columns = parquet.schema_arrow, corpus_file.columns
    names = column_names(schema, wanted_columns(columns))
    corpus_file.check(names)
    names_read = [name for name in wanted_columns(columns) if name in names]
    if columns.question in names:
        names_read += [name for name in (ANSWERS, IS_IMPOSSIBLE) if name in names and name not in names_read]
    _refuse_bomb(parquet.metadata, names_read, corpus_file.source.max_unpacked_bytes)
    row = 1
    for rows in parquet.iter_batches(BATCH_ROWS, columns=names_read, use_threads=False):  # it is read ahead in a thread
        table = pa.table({name: column_of(rows, name) for name in names_read})
        numbers = range(row, row + rows.num_rows)
        yield Piece(
            table, corpus_file.shown_path, "row", numbers, corpus_file.folder_values, True, without_answer(table)
        )
        row += rows.num_rows


def column_names(schema: pa.Schema, wanted: list[str]) -> list[str]:
    """The names of a table's columns, and those of the wanted ones that lie in structs."""
    return [*schema.names, *(name for name in wanted if name not in schema.names and _lies_in_struct(schema, name))]


def column_of(table: pa.Table | pa.RecordBatch, name: str) -> pa.Array | pa.ChunkedArray:
    """A column, or the field of a struct, by its name."""
    if name in table.schema.names:
        return table.column(name)
    first, *fields = name.split(".")
    return pc.struct_field(table.column(first), fields)


def _lies_in_struct(schema: pa.Schema, name: str) -> bool:
    first, *fields = name.split(".")
    if first not in schema.names:
        return False
    kind = schema.field(first).type
    for field in fields:
        if not pa.types.is_struct(kind) or kind.get_field_index(field) < 0:
            return False
        kind = kind.field(field).type
    return bool(fields)


def _refuse_bomb(metadata: pyarrow.parquet.FileMetaData, wanted: list[str], most: int) -> None:
    unpacked = 0
    for group in range(metadata.num_row_groups):
        for number in range(metadata.num_columns):
            chunk = metadata.row_group(group).column(number)
            if any(f"{chunk.path_in_schema}.".startswith(f"{name}.") for name in wanted):
                unpacked += chunk.total_uncompressed_size
    if unpacked > most:
        raise BrokenFileError(f"has {unpacked} bytes unpacked, source.max_unpacked_bytes = {most} allows no more")
