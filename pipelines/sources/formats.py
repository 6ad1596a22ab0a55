"""Formats: what the files of a corpus may be; each is read in tables of at most 1,000 rows."""

import csv
import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from itertools import islice
from typing import Any, BinaryIO

import pyarrow as pa
import pyarrow.parquet

from pipelines.errors import SourceError
from pipelines.settings import ColumnSettings
from pipelines.sources.rows import BATCH_ROWS, check_columns, not_text, wanted_columns

PARQUET_BUFFER_BYTES = 1 << 18
"""Read at once of each column."""
PACKED = (".gz", ".bz2", ".xz")
Reader = Callable[[BinaryIO, str, ColumnSettings], Iterator[pa.Table | pa.RecordBatch]]


def reader_of(path: str) -> Reader | None:
    """The reader for a file's name, packed or not; None when its ending is unknown."""
    name = path.lower()
    for packed in PACKED:
        name = name.removesuffix(packed)
    return next((reader for ending, reader in READERS.items() if name.endswith(ending)), None)


def read_parquet(file: BinaryIO, path: str, columns: ColumnSettings) -> Iterator[pa.RecordBatch]:
    """The columns that the settings name, of a parquet file."""
    # Read ahead as a whole, as is the default, a file's row groups would stay in memory until its end.
    parquet = pyarrow.parquet.ParquetFile(file, buffer_size=PARQUET_BUFFER_BYTES, pre_buffer=False)
    names = parquet.schema_arrow.names
    check_columns(names, columns, path)
    wanted = [name for name in wanted_columns(columns) if name in names]
    yield from parquet.iter_batches(BATCH_ROWS, columns=wanted, use_threads=False)  # it is read ahead in a thread


def read_csv(file: BinaryIO, path: str, columns: ColumnSettings) -> Iterator[pa.Table]:
    """A CSV file with a header, comma-separated; quoted values may hold commas, quotes and newlines."""
    csv.field_size_limit(2**31 - 1)
    lines = csv.reader(_decoded(file, path), strict=True)
    try:
        header = next(lines, [])
        if header:
            check_columns(header, columns, path)
        records = (_csv_record(header, fields, f"{path}, line {lines.line_num}") for fields in lines if fields)
        yield from _tables(records, header, columns)
    except csv.Error as error:
        raise SourceError(f"{path}, line {lines.line_num}: not CSV: {error}") from error


def read_json_lines(file: BinaryIO, path: str, columns: ColumnSettings) -> Iterator[pa.Table]:
    """JSON objects, one on a line. A key that no line has is refused; where only some have it, it is null."""
    found: dict[str, None] = {}
    records = (
        _json_record(line, f"{path}, line {n}") for n, line in enumerate(_decoded(file, path), 1) if line.strip()
    )
    while batch := list(islice(records, BATCH_ROWS)):
        for _, record in batch:
            found |= dict.fromkeys(record)
        check_columns(found, columns, path, only=("text",))
        yield from _tables(batch, found, columns)
    if found:
        check_columns(found, columns, path)


def read_squad_json(file: BinaryIO, path: str, columns: ColumnSettings) -> Iterator[pa.Table]:
    """SQuAD v1.1 and v2.0: `{"data": [{"title", "paragraphs": [{"context", "qas": [...]}]}]}`."""
    title, question, question_id = columns.title, columns.question, columns.question_id
    names = [name for name in (columns.text, title, question, question_id) if name]
    check_columns(names, columns, path)
    try:
        articles = json.load(file)["data"]
        rows = [row for article in articles for row in _article_rows(article)]
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise SourceError(
            f"{path} is not SQuAD's JSON ({type(error).__name__}: {error}): "
            "wanted data > paragraphs > context; other JSON is read line by line from a .jsonl file"
        ) from error
    keys = (title or "", columns.text, question or "", question_id or "")
    yield from _tables(((path, dict(zip(keys, row, strict=True))) for row in rows), names, columns)


def _article_rows(article: Mapping[str, Any]) -> Iterator[tuple[Any, Any, Any, Any]]:
    """Title, context, question and question id. A paragraph without an answered question is one row."""
    for paragraph in article["paragraphs"]:
        # The questions of v2.0 that the paragraph does not answer cannot tell whether search finds it.
        answered = [qa for qa in paragraph.get("qas") or () if not qa.get("is_impossible")]
        for qa in answered or [{}]:
            yield article.get("title"), paragraph["context"], qa.get("question"), qa.get("id")


def _decoded(file: BinaryIO, path: str) -> Iterator[str]:
    """The lines of a UTF-8 file, with their ends."""
    for number, line in enumerate(file, 1):
        try:
            yield line.decode("utf-8-sig" if number == 1 else "utf-8")
        except UnicodeDecodeError as error:
            raise SourceError(
                f"{path}, line {number}: byte {error.start + 1} of the line is not UTF-8: convert the file"
            ) from error


def _csv_record(header: list[str], fields: list[str], place: str) -> tuple[str, dict[str, Any]]:
    if len(fields) != len(header):
        raise SourceError(f"{place}: {len(fields)} fields, the header has {len(header)}: mend the row, or quote it")
    return place, {name: value or None for name, value in zip(header, fields, strict=True)}


def _json_record(line: str, place: str) -> tuple[str, dict[str, Any]]:
    try:
        record = json.loads(line)
    except (json.JSONDecodeError, RecursionError) as error:
        raise SourceError(f"{place}: not JSON: {error}") from error
    if not isinstance(record, dict):
        raise SourceError(f"{place}: wanted a JSON object, found {type(record).__name__}")
    return place, record


def _tables(
    records: Iterable[tuple[str, Mapping[str, Any]]], found: Iterable[str], columns: ColumnSettings
) -> Iterator[pa.Table]:
    """Records, each with its place, as tables of strings: those of the wanted columns that were found."""
    names = [name for name in wanted_columns(columns) if name in set(found)]
    iterator = iter(records)
    while batch := list(islice(iterator, BATCH_ROWS)):
        yield pa.table(
            {name: pa.array([_text(r.get(name), name, p, columns) for p, r in batch], pa.string()) for name in names}
        )


def _text(value: Any, name: str, place: str, columns: ColumnSettings) -> str | None:
    """A JSON value as text: strings as they are, numbers as JSON writes them, but not where prose belongs."""
    if isinstance(value, str):
        if not value.isascii() and any("\ud800" <= character <= "\udfff" for character in value):
            raise SourceError(f"{place}: {name!r} holds half of a surrogate pair, which is not text: mend the file")
        return value
    if value is None:
        return None
    if isinstance(value, bool | int | float) and name not in (columns.text, columns.question):
        return json.dumps(value)
    raise SourceError(not_text(f"{place}: {name!r}", type(value).__name__, name, columns))


READERS: dict[str, Reader] = {
    ".parquet": read_parquet,
    ".jsonl": read_json_lines,
    ".ndjson": read_json_lines,
    ".csv": read_csv,
    ".json": read_squad_json,
}
