"""Rows: the one shape in which every source hands over its corpus.

A row is a document's text and, if there is one, a question that it answers; a document with three
questions is three rows, a document without questions one.

What cannot be read of a corpus is left out, reported as `Unreadable`, and quarantined; the rest goes through. A
row is unreadable when its line is broken, its text is none (a number, a list, bytes that are not UTF-8), or it has no
id where the settings name a column of ids. A file is when it cannot be opened, read to its end, or is not of its
format, and there are others beside it. What says that the settings, and not the data, are wrong stays an error
(SourceError): no file matches, a format is not known, a column is absent from a whole file, or is of a type that is
no text; and so does a file that cannot be read when it is the only one, and a corpus in which nothing can be read.
"""

import difflib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from squadron.errors import SourceError
from squadron.settings.schema import ColumnSettings

BATCH_ROWS = 1000
RESERVED = ("document_id", "title", "text", "question_id", "question")


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

    def place(self, row: int) -> str:
        """Where one of the rows stands."""
        return f"{self.path}, {self.unit} {self.numbers[row]}"


def row_schema(columns: ColumnSettings) -> pa.Schema:
    """The columns of a row: the five reserved ones and the metadata columns, all strings."""
    return pa.schema([(name, pa.string()) for name in (*RESERVED, *columns.metadata)])


def wanted_columns(columns: ColumnSettings) -> list[str]:
    """The file's columns that the settings name, each once."""
    named = [getattr(columns, name) for name in RESERVED]
    return list(dict.fromkeys([*filter(None, named), *columns.metadata]))


def check_columns(column_names: Iterable[str], columns: ColumnSettings, path: str, only: Iterable[str] = ()) -> None:
    """Raise SourceError, naming the columns there are and the setting, when one that the settings name is absent.

    Titles and questions may be absent, unless the settings name them otherwise than by default. `only` these
    roles are looked at, if any are given.
    """
    names = list(column_names)
    roles = {role: getattr(columns, role) for role in RESERVED} | {name: name for name in columns.metadata}
    for role, column in roles.items():
        if column is None or (only and role not in only):
            continue
        setting = setting_of(column, columns)
        if names.count(column) > 1:
            raise SourceError(f"{path} has {names.count(column)} columns named {column!r} ({setting}): rename one")
        if column not in names and not _may_be_absent(role, columns):
            nearest = difflib.get_close_matches(column, names, n=1)
            hint = f", did you mean {nearest[0]!r}?" if nearest else "."
            listed = ", ".join(names[:50]) or "none"
            raise SourceError(
                f"{path} has no column {column!r}{hint} Its columns are: {listed}. Say with {setting} which one to read"
            )


def readable_rows(piece: Piece, columns: ColumnSettings) -> Iterator[pa.RecordBatch | Unreadable]:
    """The rows of a piece by their roles, after those of them that cannot be read; absent columns become nulls.

    Raises SourceError, naming the file and the setting, when a column does not hold text (see also `check_columns`).
    """
    arrays, reasons = [], dict[int, str]()
    for role in row_schema(columns).names:
        column = getattr(columns, role) if role in RESERVED else role
        if role == "question_id" and column == columns.document_id:  # then it tells no question from another
            column = None
        if column is None or column not in piece.table.schema.names:
            arrays.append(pa.nulls(piece.table.num_rows, pa.string()))
        else:
            array, undecodable = _as_text(piece.table.column(column), column, columns, piece.path)
            arrays.append(array)
            reasons |= dict.fromkeys(undecodable, f"column {column!r} holds bytes that are not UTF-8: convert the file")
    rows = pa.RecordBatch.from_arrays(arrays, schema=row_schema(columns))
    if columns.document_id:
        reasons = _nameless(rows, columns.document_id) | reasons
    for row in sorted(reasons):
        yield Unreadable(piece.place(row), reasons[row], known_id(rows["document_id"][row].as_py()))
    if reasons:
        rows = rows.filter(pa.array(~np.isin(np.arange(rows.num_rows), list(reasons))))
    if rows.num_rows:
        yield rows


def known_id(value: str | None) -> str | None:
    """A document's id, if there is one: not null, nor blank."""
    return value if value and not value.isspace() else None


def not_text(location: str, value_type: object, column: str, columns: ColumnSettings) -> str:
    """The message for a value that is not text."""
    return f"{location} holds {value_type}, wanted text: set {setting_of(column, columns)} to another column"


def setting_of(column: str, columns: ColumnSettings) -> str:
    """The setting that names a column."""
    role = next((role for role in RESERVED if getattr(columns, role) == column), "metadata")
    return f"source.columns.{role}"


def has_text(column: pa.ChunkedArray | pa.Array) -> pa.ChunkedArray | pa.Array:
    """`bool`: which values are neither null nor blank."""
    return pc.fill_null(pc.and_not(pc.greater(pc.binary_length(column), 0), pc.utf8_is_space(column)), False)


def _may_be_absent(role: str, columns: ColumnSettings) -> bool:
    optional = role in ("title", "question", "question_id")
    return optional and getattr(columns, role) == ColumnSettings.model_fields[role].default


def _as_text(
    array: pa.Array | pa.ChunkedArray, column: str, columns: ColumnSettings, path: str
) -> tuple[pa.Array, list[int]]:
    """A column as text, and the rows whose bytes are none: these are null."""
    location = f"{path}: column {column!r}"
    values = array.type.value_type if pa.types.is_dictionary(array.type) else array.type
    if column in (columns.text, columns.question) and not any(is_text(values) for is_text in _TEXT_TYPES):
        raise SourceError(not_text(location, array.type, column, columns))
    try:
        texts = array.cast(pa.string())
        texts.validate(full=True)
    except (pa.ArrowNotImplementedError, pa.ArrowInvalid) as error:
        if "UTF" in str(error):
            return _decoded(array)
        raise SourceError(not_text(location, array.type, column, columns)) from error
    return texts.combine_chunks() if isinstance(texts, pa.ChunkedArray) else texts, []


def _decoded(array: pa.Array | pa.ChunkedArray) -> tuple[pa.Array, list[int]]:
    """What can be decoded of a column, one value at a time, and the rows that cannot."""
    dense = array.cast(array.type.value_type) if pa.types.is_dictionary(array.type) else array
    texts, undecodable = list[str | None](), list[int]()
    for row, value in enumerate(dense.cast(pa.large_binary()).to_pylist()):
        try:
            texts.append(None if value is None else value.decode())
        except UnicodeDecodeError:
            texts.append(None)
            undecodable.append(row)
    return pa.array(texts, pa.string()), undecodable


def _nameless(rows: pa.RecordBatch, column: str) -> dict[int, str]:
    """The rows that have a text and no id, and why they are not taken."""
    nameless = pc.and_(has_text(rows["text"]), pc.invert(has_text(rows["document_id"])))
    if not pc.any(nameless).as_py():
        return {}
    reason = (
        f"no id in column {column!r}: give every document one, or unset source.columns.document_id "
        "to derive ids from the text"
    )
    return dict.fromkeys(np.flatnonzero(nameless.to_numpy(zero_copy_only=False)).tolist(), reason)


_TEXT_TYPES = (pa.types.is_string, pa.types.is_large_string, pa.types.is_string_view, pa.types.is_null)
