"""Formats: what the files of a corpus may be; each is read in pieces of at most 1,000 rows.

Where a reader cannot read a row, it gives an `Unreadable` and goes on. In CSV, a row whose quotes are broken may end
anywhere: what follows it is not guessed at.
"""

import csv
import json
from collections.abc import Callable, Iterator, Mapping
from typing import Any, BinaryIO

import pyarrow.parquet

from squadron.errors import SourceError
from squadron.settings.schema import ColumnSettings
from squadron.sources.records import Record, batches, id_of, piece_of, pieces_of
from squadron.sources.rows import BATCH_ROWS, Piece, Unreadable, check_columns, wanted_columns

PARQUET_BUFFER_BYTES = 1 << 18
"""Read at once of each column."""
PACKED = (".gz", ".bz2", ".xz")
Reader = Callable[[BinaryIO, str, ColumnSettings], Iterator[Piece | Unreadable]]


class BrokenFileError(Exception):
    """A file is not of the format that its name says."""


def reader_of(path: str) -> Reader | None:
    """The reader for a file's name, packed or not; None when its ending is unknown."""
    name = path.lower()
    for packed in PACKED:
        name = name.removesuffix(packed)
    return next((reader for ending, reader in READERS.items() if name.endswith(ending)), None)


def read_parquet(file: BinaryIO, path: str, columns: ColumnSettings) -> Iterator[Piece]:
    """The columns that the settings name, of a parquet file."""
    # Read ahead as a whole, as is the default, a file's row groups would stay in memory until its end.
    parquet = pyarrow.parquet.ParquetFile(file, buffer_size=PARQUET_BUFFER_BYTES, pre_buffer=False)
    names = parquet.schema_arrow.names
    check_columns(names, columns, path)
    names_read, row = [name for name in wanted_columns(columns) if name in names], 1
    for rows in parquet.iter_batches(BATCH_ROWS, columns=names_read, use_threads=False):  # it is read ahead in a thread
        yield Piece(rows, path, "row", range(row, row + rows.num_rows))
        row += rows.num_rows


def read_csv(file: BinaryIO, path: str, columns: ColumnSettings) -> Iterator[Piece | Unreadable]:
    """A CSV file with a header, comma-separated; quoted values may hold commas, quotes and newlines."""
    csv.field_size_limit(2**31 - 1)
    undecodable: dict[int, str] = {}
    lines = _decoded(file, undecodable)
    rows = csv.reader(lines, strict=True)
    try:
        header = next(rows, [])
    except csv.Error as error:
        raise SourceError(f"{path}, line {rows.line_num}: not CSV: {error}") from error
    if undecodable:
        raise SourceError(f"{path}: the header is not UTF-8, {undecodable.popitem()[1]}")
    if header:
        check_columns(header, columns, path)
        yield from pieces_of(_csv_records(rows, lines, header, path, columns, undecodable), header, path, columns)


def read_json_lines(file: BinaryIO, path: str, columns: ColumnSettings) -> Iterator[Piece | Unreadable]:
    """JSON objects, one on a line. A key that no line has is refused; where only some have it, it is null."""
    column_names: dict[str, None] = {}
    for batch in batches(_json_records(file, path)):
        if isinstance(batch, Unreadable):
            yield batch
            continue
        for _, record in batch:
            column_names |= dict.fromkeys(record)
        check_columns(column_names, columns, path, only=("text",))
        yield from piece_of(batch, column_names, path, columns)
    if column_names:
        check_columns(column_names, columns, path)


def read_squad_json(file: BinaryIO, path: str, columns: ColumnSettings) -> Iterator[Piece | Unreadable]:
    """SQuAD v1.1 and v2.0: `{"data": [{"title", "paragraphs": [{"context", "qas": [...]}]}]}`."""
    title, question, question_id = columns.title, columns.question, columns.question_id
    names = [name for name in (columns.text, title, question, question_id) if name]
    check_columns(names, columns, path)
    try:
        articles = json.load(file)["data"]
        rows = [row for article in articles for row in _article_rows(article)]
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise BrokenFileError(
            f"is not SQuAD's JSON ({type(error).__name__}: {error}): "
            "wanted data > paragraphs > context; other JSON is read line by line from a .jsonl file"
        ) from error
    keys = (title or "", columns.text, question or "", question_id or "")
    records = ((number, dict(zip(keys, row, strict=True))) for number, row in enumerate(rows, 1))
    yield from pieces_of(records, names, path, columns, "row")


def _article_rows(article: Mapping[str, Any]) -> Iterator[tuple[Any, Any, Any, Any]]:
    """Title, context, question and question id. A paragraph without an answered question is one row."""
    for paragraph in article["paragraphs"]:
        # The questions of v2.0 that the paragraph does not answer cannot tell whether search finds it.
        answered = [qa for qa in paragraph.get("qas") or () if not qa.get("is_impossible")]
        for qa in answered or [{}]:
            yield article.get("title"), paragraph["context"], qa.get("question"), qa.get("id")


def _json_records(file: BinaryIO, path: str) -> Iterator[Record | Unreadable]:
    for number, line in enumerate(file, 1):
        try:
            text = line.decode("utf-8-sig" if number == 1 else "utf-8")
            if text.isspace():
                continue
            record = json.loads(text.rstrip("\n"))
        except UnicodeDecodeError as error:
            yield Unreadable(f"{path}, line {number}", _not_utf8(error))
        except (ValueError, RecursionError) as error:
            yield Unreadable(f"{path}, line {number}", f"not JSON: {error}")
        else:
            if isinstance(record, dict):
                yield number, record
            else:
                reason = f"wanted a JSON object, found {type(record).__name__}"
                yield Unreadable(f"{path}, line {number}", reason)


def _csv_records(
    rows: Any, lines: Iterator[str], header: list[str], path: str, columns: ColumnSettings, undecodable: dict[int, str]
) -> Iterator[Record | Unreadable]:
    """The rows after the header; `undecodable` is filled, line by line, while they are read."""
    while True:
        number = rows.line_num + 1
        try:
            fields = next(rows)
        except StopIteration:
            return
        except csv.Error as error:
            reason = f"not CSV: {error}. The rows from here on cannot be told apart: mend the quotes"
            yield Unreadable(f"{path}, line {number}", reason, rows=rows.line_num + 1 - number + sum(1 for _ in lines))
            return
        if not any(fields):
            continue
        if len(fields) != len(header):  # one too many or too few: nobody knows which of them is the id
            reason = f"{len(fields)} fields, the header has {len(header)}: mend the row, or quote it"
            yield Unreadable(f"{path}, line {number}", reason)
            undecodable.clear()
            continue
        record = {name: value or None for name, value in zip(header, fields, strict=True)}
        if not undecodable:
            yield number, record
            continue
        yield Unreadable(f"{path}, line {number}", undecodable[min(undecodable)], id_of(record, columns))
        undecodable.clear()


def _decoded(file: BinaryIO, undecodable: dict[int, str]) -> Iterator[str]:
    """The lines of a file that should be UTF-8, with their ends; what a line cannot be is noted by its number."""
    for number, line in enumerate(file, 1):
        encoding = "utf-8-sig" if number == 1 else "utf-8"
        try:
            yield line.decode(encoding)
        except UnicodeDecodeError as error:
            undecodable[number] = _not_utf8(error)
            yield line.decode(encoding, "surrogateescape")  # its commas and quotes still say where the row ends


def _not_utf8(error: UnicodeDecodeError) -> str:
    return f"byte {error.start + 1} of the line is not UTF-8: convert the file"


READERS: dict[str, Reader] = {
    ".parquet": read_parquet,
    ".jsonl": read_json_lines,
    ".ndjson": read_json_lines,
    ".csv": read_csv,
    ".json": read_squad_json,
}
