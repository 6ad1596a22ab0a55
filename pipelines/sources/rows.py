"""Rows: the one shape in which every source hands over its corpus.

A row is a document's text and, if there is one, a question that it answers; a document with three
questions is three rows, a document without questions one.
"""

import difflib

import pyarrow as pa
import pyarrow.compute as pc

from pipelines.errors import SourceError
from pipelines.settings import ColumnSettings

RESERVED = ("document_id", "title", "text", "question_id", "question")


def row_schema(columns: ColumnSettings) -> pa.Schema:
    """The columns of a row: the five reserved ones and the metadata columns, all strings."""
    return pa.schema([(name, pa.string()) for name in (*RESERVED, *columns.metadata)])


def renamed_rows(table: pa.Table | pa.RecordBatch, columns: ColumnSettings, place: str) -> pa.RecordBatch:
    """A table with a file's own column names as rows.

    Absent title and question columns become nulls, unless the settings name them otherwise than by default.
    Raises SourceError, naming the place, the columns found and the setting, when a column is missing or
    does not hold text, and when a document id is null.
    """
    optional = {name for name in ("title", "question", "question_id") if _is_default(columns, name)}
    wanted: dict[str, str | None] = {name: getattr(columns, name) for name in RESERVED}
    wanted |= {name: name for name in columns.metadata}
    arrays = []
    for name, column in wanted.items():
        if column is None or (name in optional and column not in table.schema.names):
            arrays.append(pa.nulls(table.num_rows, pa.string()))
        else:
            arrays.append(_text_column(table, name, column, place))
    rows = pa.RecordBatch.from_arrays(arrays, schema=row_schema(columns))
    if columns.document_id and rows.column("document_id").null_count:
        row = pc.index(rows.column("document_id").is_null(), True).as_py() + 1
        raise SourceError(
            f"{place}: row {row} of this batch has no id in column {columns.document_id!r}: "
            "give every document one, or unset source.columns.document_id to derive ids from the text"
        )
    return rows


def _is_default(columns: ColumnSettings, name: str) -> bool:
    return getattr(columns, name) == ColumnSettings.model_fields[name].default


def _text_column(table: pa.Table | pa.RecordBatch, name: str, column: str, place: str) -> pa.Array:
    setting = f"source.columns.{name if name in RESERVED else 'metadata'}"
    if column not in table.schema.names:
        nearest = difflib.get_close_matches(column, table.schema.names, n=1)
        hint = f", did you mean {nearest[0]!r}?" if nearest else ""
        raise SourceError(
            f"{place} has no column {column!r}{hint} Its columns are: {', '.join(table.schema.names)}. "
            f"Say with {setting} which one to read"
        )
    array = table.column(column)
    try:
        array = array.cast(pa.string())
    except (pa.ArrowNotImplementedError, pa.ArrowInvalid) as error:
        raise SourceError(
            f"{place}: column {column!r} holds {array.type}, wanted text: set {setting} to another column"
        ) from error
    return array.combine_chunks() if isinstance(array, pa.ChunkedArray) else array
