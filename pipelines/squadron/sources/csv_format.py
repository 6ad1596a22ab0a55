"""CSV: a header, then rows, comma-separated; quoted values may hold commas, quotes and newlines.

A row whose quotes are broken may end anywhere: what follows it is not guessed at. Where files were joined end to end,
their headers stand between the rows, and are none.
"""

import csv
import logging
from collections.abc import Iterator
from functools import partial
from io import BufferedReader
from typing import Any

from squadron.errors import SourceError
from squadron.sources.corpus_file import BrokenFileError, CorpusFile
from squadron.sources.records import Record, id_of, pieces_of
from squadron.sources.rows import Piece, Unreadable

log = logging.getLogger(__name__)


def read_csv(file: BufferedReader, corpus_file: CorpusFile) -> Iterator[Piece | Unreadable]:
    """A CSV file with a header, as the csv module reads it."""
    csv.field_size_limit(corpus_file.source.max_line_bytes)
    undecodable: dict[int, str] = {}
    lines = _decoded(file, undecodable, corpus_file.source.max_line_bytes)
    rows = csv.reader(lines, strict=True)
    try:
        header = next(rows, [])
    except csv.Error as error:
        raise SourceError(f"{corpus_file.shown_path}, line {rows.line_num}: not CSV: {error}") from error
    if undecodable:
        raise SourceError(f"{corpus_file.shown_path}: the header is not UTF-8, {undecodable.popitem()[1]}")
    if header:
        corpus_file.check(header)
        yield from pieces_of(_records(rows, lines, header, corpus_file, undecodable), header, corpus_file)


def _records(
    rows: Any, lines: Iterator[str], header: list[str], corpus_file: CorpusFile, undecodable: dict[int, str]
) -> Iterator[Record | Unreadable]:
    """The rows after the header; `undecodable` is filled, line by line, while they are read."""
    headers = 0
    while True:
        number = rows.line_num + 1
        place = f"{corpus_file.shown_path}, line {number}"
        try:
            fields = next(rows)
        except StopIteration:
            break
        except csv.Error as error:
            reason = f"not CSV: {error}. The rows from here on cannot be told apart: mend the quotes"
            yield Unreadable(place, reason, rows=rows.line_num + 1 - number + sum(1 for _ in lines))
            break
        record = dict(zip(header, (value or None for value in fields), strict=False))
        if not any(fields):
            continue
        if _is_header(fields, header):
            headers += 1
        elif len(fields) != len(header):  # one too many or too few: nobody knows which of them is the id
            yield Unreadable(place, f"{len(fields)} fields, the header has {len(header)}: mend the row, or quote it")
            undecodable.clear()
        elif not undecodable:
            yield number, record
        else:
            yield Unreadable(place, undecodable[min(undecodable)], id_of(record, corpus_file.columns))
            undecodable.clear()
    if headers:
        log.warning(
            "%s: its header stands %d times among its rows, and is no document", corpus_file.shown_path, headers
        )


def _is_header(fields: list[str], header: list[str]) -> bool:
    return [fields[0].removeprefix("\ufeff"), *fields[1:]] == header


def _decoded(file: BufferedReader, undecodable: dict[int, str], most: int) -> Iterator[str]:
    """The lines of a file that should be UTF-8, with their ends; what a line cannot be is noted by its number."""
    for number, line in enumerate(iter(partial(file.readline, most + 1), b""), 1):
        if len(line) > most and not line.endswith(b"\n"):
            raise BrokenFileError(f"has a line, {number}, of more than source.max_line_bytes = {most}")
        encoding = "utf-8-sig" if number == 1 else "utf-8"
        try:
            yield line.decode(encoding)
        except UnicodeDecodeError as error:
            undecodable[number] = f"byte {error.start + 1} of the line is not UTF-8: convert the file"
            yield line.decode(encoding, "surrogateescape")  # its commas and quotes still say where the row ends
