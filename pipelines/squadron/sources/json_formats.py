"""JSON: objects one on a line, a list of them, one after the other, or SQuAD's own."""

import io
import json
from collections.abc import Iterable, Iterator, Mapping
from functools import partial
from io import BufferedReader
from itertools import chain
from typing import Any

from squadron.sources.corpus_file import BrokenFileError, CorpusFile
from squadron.sources.json_values import WANTED, Layout, layout_of, values_in, whole
from squadron.sources.records import Record, batches, names_in, piece_of, pieces_of
from squadron.sources.rows import Piece, Unreadable

MOST_NAMES = 1000
"""Names of columns that nobody wants are gathered up to these, for messages."""
ENDLESS = 16
"""A line that is so many times longer than `source.max_line_bytes` allows has no end."""


def read_json_lines(file: BufferedReader, corpus_file: CorpusFile) -> Iterator[Piece | Unreadable]:
    """JSON objects, one on a line; a line that is none is told. Or all of it is a list of them, or they span lines."""
    if layout_of(file) is not Layout.OPEN:
        yield from _pieces(_line_records(file, corpus_file), corpus_file, "line")
        return
    try:
        values = values_in(whole(file, corpus_file.source.max_json_bytes))
    except BrokenFileError:  # a broken line
        file.seek(0)
        yield from _pieces(_line_records(file, corpus_file), corpus_file, "line")
    else:
        yield from _pieces(_value_records(values, corpus_file), corpus_file, "row")


def read_json(file: BufferedReader, corpus_file: CorpusFile) -> Iterator[Piece | Unreadable]:
    """SQuAD's JSON, v1.1 and v2.0: `{"data": [{"title", "paragraphs": [{"context", "qas": [...]}]}]}`; or objects."""
    layout = layout_of(file)
    if layout is Layout.LINES:
        yield from _pieces(_line_records(file, corpus_file), corpus_file, "line")
        return
    content = whole(file, corpus_file.source.max_json_bytes)
    try:
        values = values_in(content)
    except BrokenFileError:
        if layout is not Layout.LONG or b"\n" not in content.strip():
            raise
        yield from _pieces(_line_records(io.BytesIO(content), corpus_file), corpus_file, "line")
        return
    only = values[0] if len(values) == 1 else None
    if len(values) == 1 and not isinstance(only, list) and not _is_record(only, corpus_file):
        yield from _squad_pieces(only, corpus_file)
    else:
        yield from _pieces(_value_records(values, corpus_file), corpus_file, "row")


def _is_record(value: Any, corpus_file: CorpusFile) -> bool:
    return isinstance(value, dict) and corpus_file.columns.text in names_in([value], corpus_file.columns, 0)


def _pieces(records: Iterable[Record | Unreadable], corpus_file: CorpusFile, unit: str) -> Iterator[Piece | Unreadable]:
    """Pieces of records. A key that no record has is refused in the end; where only some have it, it is null."""
    names: dict[str, None] = {}
    for batch in batches(records):
        if isinstance(batch, Unreadable):
            yield batch
            continue
        names |= names_in([record for _, record in batch], corpus_file.columns, MOST_NAMES - len(names))
        yield from piece_of(batch, names, corpus_file, unit)
    if names:
        corpus_file.check(names)


def _line_records(file: BufferedReader | io.BytesIO, corpus_file: CorpusFile) -> Iterator[Record | Unreadable]:
    most, number = corpus_file.source.max_line_bytes, 0
    lines: Iterator[bytes] = iter(partial(file.readline, most + 1), b"")
    while (line := next(lines, None)) is not None:
        number += 1
        place = f"{corpus_file.shown_path}, line {number}"
        if len(line) > most and not line.endswith(b"\n"):
            _skip_line(file, number, most)
            yield Unreadable(place, f"longer than source.max_line_bytes = {most}")
            continue
        try:
            text = line.decode("utf-8-sig" if number == 1 else "utf-8")
            if text.isspace():
                continue
            record = json.loads(text.rstrip("\n"))
        except UnicodeDecodeError as error:
            yield Unreadable(place, f"byte {error.start + 1} of the line is not UTF-8: convert the file")
        except (ValueError, RecursionError) as error:
            yield Unreadable(place, f"not JSON: {error}")
        else:
            if isinstance(record, dict):
                yield number, record
                continue
            following = next(lines, None) if number == 1 else b""
            if isinstance(record, list) and following is None:  # the file is a list
                yield from _value_records([record], corpus_file)
                return
            yield Unreadable(place, f"wanted a JSON object, found {type(record).__name__}")
            lines = chain([following], lines) if following else lines


def _skip_line(file: BufferedReader | io.BytesIO, number: int, most: int) -> None:
    for _ in range(ENDLESS):
        part = file.readline(most)
        if not part or part.endswith(b"\n"):
            return
    raise BrokenFileError(f"has a line, {number}, of more than {ENDLESS} times source.max_line_bytes = {most}")


def _value_records(values: list[Any], corpus_file: CorpusFile) -> Iterator[Record | Unreadable]:
    """The objects of a list, or one after the other."""
    records = values[0] if len(values) == 1 and isinstance(values[0], list) else values
    for number, record in enumerate(records, 1):
        if isinstance(record, dict):
            yield number, record
        else:
            reason = f"wanted a JSON object, found {type(record).__name__}"
            yield Unreadable(f"{corpus_file.shown_path}, row {number}", reason)


def _squad_pieces(value: Any, corpus_file: CorpusFile) -> Iterator[Piece | Unreadable]:
    columns = corpus_file.columns
    names = [name for name in (columns.text, columns.title, columns.question, columns.question_id) if name]
    corpus_file.check(names)
    try:
        rows = [row for article in value["data"] for row in _article_rows(article)]
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise BrokenFileError(f"is not SQuAD's JSON ({type(error).__name__}: {error}): {WANTED}") from error
    keys = (columns.title or "", columns.text, columns.question or "", columns.question_id or "")
    records = ((number, dict(zip(keys, row, strict=True))) for number, row in enumerate(rows, 1))
    yield from pieces_of(records, names, corpus_file, "row")


def _article_rows(article: Mapping[str, Any]) -> Iterator[tuple[Any, Any, Any, Any]]:
    """Title, context, question and question id. A paragraph without an answered question is one row."""
    for paragraph in article["paragraphs"]:
        # The questions of v2.0 that the paragraph does not answer cannot tell whether search finds it.
        answered = [qa for qa in paragraph.get("qas") or () if not qa.get("is_impossible")]
        for qa in answered or [{}]:
            yield article.get("title"), paragraph["context"], qa.get("question"), qa.get("id")
