"""Rows: the one shape in which every source hands over its corpus.

A row is a document's text and, if there is one, a question that it answers; a document with three
questions is three rows, a document without questions one.

What cannot be read of a corpus is left out, reported as `Unreadable`, and quarantined; the rest goes through. A
row is unreadable when its line is broken, its text is none (a number, a list, bytes that are not UTF-8), or it has no
id where the settings name a column of ids. A file is when it cannot be opened, read to its end, or is not of its
format, and there are others beside it. What says that the settings, and not the data, are wrong stays an error
(SourceError): no file matches, a format is not known, a column is absent from a whole file, or is of a type that is
no text; and so does a file that cannot be read when it is the only one, and a corpus in which nothing can be read.

A column that a file lacks is what its folders say, as in `lang=de/part-0.parquet`, and else null.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from squadron.settings.schema import ColumnSettings, SourceSettings
from squadron.sources.columns import RESERVED, source_columns
from squadron.sources.text_arrays import NOT_UTF8, as_text

BATCH_ROWS = 1000


@dataclass(frozen=True)
class Unreadable:
    """What cannot be read of a corpus: a row, or a file from some place on. Neither place nor reason quote it."""

    place: str
    """The file and the line, or the row."""
    reason: str
    document_id: str | None = None
    """The document that it is; None where nobody can tell."""
    rows: int = 1
    """How many rows it may be."""
    files: int = 0
    """Of how many files it is one, whose rows nobody can count; 0: these are rows."""

    def __str__(self) -> str:
        return f"{self.place}: {self.reason}"


@dataclass(frozen=True)
class Piece:
    """Some rows of a file with its own column names, and where they stand in it."""

    table: pa.Table | pa.RecordBatch
    path: str
    unit: str
    """What is counted: `line` or `row`."""
    numbers: Sequence[int]
    folder_values: Mapping[str, str | None] = field(default_factory=dict)
    """Columns that the names of the file's folders give a value, the same in all rows."""
    nulls_are_empty: bool = False
    """A null is a text or an id that is empty, and not, as in JSON without the key, one of which nothing is known."""
    unanswered: np.ndarray | None = None
    """`bool [rows]`: the rows that do not answer their question; None: all do."""

    def place(self, row: int) -> str:
        """Where one of the rows stands."""
        return f"{self.path}, {self.unit} {self.numbers[row]}"


def row_schema(columns: ColumnSettings) -> pa.Schema:
    """The columns of a row: the five reserved ones and the metadata columns, all strings."""
    return pa.schema([(name, pa.string()) for name in (*RESERVED, *columns.metadata_columns)])


def readable_rows(piece: Piece, source: SourceSettings) -> Iterator[pa.RecordBatch | Unreadable]:
    """The rows of a piece by their roles, after those of them that cannot be read; absent columns become nulls.

    Raises SourceError, naming the file and the setting, when a column does not hold text.
    """
    columns, named = source.columns, source_columns(source.columns)
    if named.get("question_id") == columns.document_id:  # then it tells no question from another
        named.pop("question_id", None)
    arrays, reasons = [], dict[int, str]()
    for role in row_schema(columns).names:
        array, undecodable = _column(piece, named.get(role), source)
        arrays.append(array)
        reasons |= dict.fromkeys(undecodable, f"column {named.get(role)!r} {NOT_UTF8}")
    rows = _asked(pa.RecordBatch.from_arrays(arrays, schema=row_schema(columns)), piece.unanswered)
    if columns.document_id:
        reasons = _nameless(rows, columns.document_id) | reasons
    reasons = _too_long(rows, source.max_document_bytes) | reasons
    for row in sorted(reasons):
        yield Unreadable(piece.place(row), reasons[row], known_id(rows["document_id"][row].as_py()))
    if reasons:
        rows = rows.filter(pa.array(~np.isin(np.arange(rows.num_rows), list(reasons))))
    if rows.num_rows:
        yield rows


def known_id(value: str | None) -> str | None:
    """A document's id, if there is one: not null, nor blank."""
    return value if value and not value.isspace() else None


def has_text(column: pa.ChunkedArray | pa.Array) -> pa.ChunkedArray | pa.Array:
    """`bool`: which values are neither null nor blank."""
    return pc.fill_null(pc.and_not(pc.greater(pc.binary_length(column), 0), pc.utf8_is_space(column)), False)


def _column(piece: Piece, name: str | None, source: SourceSettings) -> tuple[pa.Array, list[int]]:
    """A column of the piece as text, and the rows whose bytes are none."""
    if name is not None and name in piece.table.schema.names:
        texts, undecodable = as_text(piece.table.column(name), name, source.columns, piece.path)
        is_empty = piece.nulls_are_empty and name in (source.columns.text, source.columns.document_id)
        return pc.fill_null(texts, "") if is_empty else texts, undecodable
    value = piece.folder_values.get(name) if name else None
    return pa.repeat(pa.scalar(value, pa.string()), piece.table.num_rows), []


def _asked(rows: pa.RecordBatch, unanswered: np.ndarray | None) -> pa.RecordBatch:
    """The rows without the questions that they do not answer."""
    if unanswered is None or not unanswered.any():
        return rows
    for name in ("question", "question_id"):
        values = pc.if_else(pa.array(unanswered), None, rows[name])
        rows = rows.set_column(rows.schema.get_field_index(name), name, values)
    return rows


def _nameless(rows: pa.RecordBatch, column: str) -> dict[int, str]:
    """The rows that have a text and no id, and why they are not taken."""
    nameless = pc.and_(has_text(rows["text"]), pc.invert(has_text(rows["document_id"])))
    reason = (
        f"no id in column {column!r}: give every document one, or unset source.columns.document_id "
        "to derive ids from the text"
    )
    return dict.fromkeys(_positions(nameless), reason)


def _too_long(rows: pa.RecordBatch, most: int) -> dict[int, str]:
    """The rows whose text is longer than a setting allows."""
    lengths = pc.binary_length(rows["text"])
    return {
        row: f"the text has {lengths[row]} bytes, source.max_document_bytes = {most} allows no more"
        for row in _positions(pc.greater(lengths, most))
    }


def _positions(mask: pa.Array) -> list[int]:
    return pc.indices_nonzero(mask).to_pylist()
