"""Rows: the one shape in which every source hands over its corpus.

A row is a document's text and, if there is one, a question that it answers; a document with three
questions is three rows, a document without questions one.
"""

import difflib
from collections.abc import Iterable

import pyarrow as pa
import pyarrow.compute as pc

from pipelines.errors import SourceError
from pipelines.settings import ColumnSettings

BATCH_ROWS = 1000
RESERVED = ("document_id", "title", "text", "question_id", "question")


def row_schema(columns: ColumnSettings) -> pa.Schema:
    """The columns of a row: the five reserved ones and the metadata columns, all strings."""
    return pa.schema([(name, pa.string()) for name in (*RESERVED, *columns.metadata)])


def wanted_columns(columns: ColumnSettings) -> list[str]:
    """The file's columns that the settings name, each once."""
    named = [getattr(columns, name) for name in RESERVED]
    return list(dict.fromkeys([*filter(None, named), *columns.metadata]))


def check_columns(found: Iterable[str], columns: ColumnSettings, place: str, only: Iterable[str] = ()) -> None:
    """Raise SourceError, naming the columns found and the setting, when one that the settings name is absent.

    Titles and questions may be absent, unless the settings name them otherwise than by default. `only` these
    roles are looked at, if any are given.
    """
    names = list(found)
    roles = {role: getattr(columns, role) for role in RESERVED} | {name: name for name in columns.metadata}
    for role, column in roles.items():
        if column is None or (only and role not in only):
            continue
        setting = setting_of(column, columns)
        if names.count(column) > 1:
            raise SourceError(f"{place} has {names.count(column)} columns named {column!r} ({setting}): rename one")
        if column not in names and not _may_be_absent(role, columns):
            nearest = difflib.get_close_matches(column, names, n=1)
            hint = f", did you mean {nearest[0]!r}?" if nearest else "."
            listed = ", ".join(names[:50]) or "none"
            raise SourceError(
                f"{place} has no column {column!r}{hint} Its columns are: {listed}. "
                f"Say with {setting} which one to read"
            )


def renamed_rows(
    table: pa.Table | pa.RecordBatch, columns: ColumnSettings, place: str, first_row: int = 1
) -> pa.RecordBatch:
    """A table with a file's own column names as rows; absent columns become nulls (see `check_columns`).

    Raises SourceError, naming the place and the setting, when a column does not hold text, and when a row with
    a text has no document id. `first_row`: the number of the table's first row in its file.
    """
    arrays = []
    for role in row_schema(columns).names:
        column = getattr(columns, role) if role in RESERVED else role
        if column is None or column not in table.schema.names:
            arrays.append(pa.nulls(table.num_rows, pa.string()))
        else:
            arrays.append(_as_text(table.column(column), column, columns, place))
    rows = pa.RecordBatch.from_arrays(arrays, schema=row_schema(columns))
    if columns.document_id:
        _check_ids(rows, columns.document_id, place, first_row)
    return rows


def not_text(place: str, found: object, column: str, columns: ColumnSettings) -> str:
    """The message for a value that is not text."""
    return f"{place} holds {found}, wanted text: set {setting_of(column, columns)} to another column"


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


def _as_text(array: pa.Array | pa.ChunkedArray, column: str, columns: ColumnSettings, place: str) -> pa.Array:
    place = f"{place}: column {column!r}"
    values = array.type.value_type if pa.types.is_dictionary(array.type) else array.type
    if column in (columns.text, columns.question) and not any(is_text(values) for is_text in _TEXT_TYPES):
        raise SourceError(not_text(place, array.type, column, columns))
    try:
        array = array.cast(pa.string())
        array.validate(full=True)
    except (pa.ArrowNotImplementedError, pa.ArrowInvalid) as error:
        if "UTF" in str(error):
            raise SourceError(f"{place} holds bytes that are not UTF-8 ({error}): convert the file") from error
        raise SourceError(not_text(place, array.type, column, columns)) from error
    return array.combine_chunks() if isinstance(array, pa.ChunkedArray) else array


def _check_ids(rows: pa.RecordBatch, column: str, place: str, first_row: int) -> None:
    nameless = pc.and_(has_text(rows["text"]), pc.invert(has_text(rows["document_id"])))
    position = pc.index(nameless, True).as_py()
    if position >= 0:
        raise SourceError(
            f"{place}: row {first_row + position} has no id in column {column!r}: "
            "give every document one, or unset source.columns.document_id to derive ids from the text"
        )


_TEXT_TYPES = (pa.types.is_string, pa.types.is_large_string, pa.types.is_string_view, pa.types.is_null)
