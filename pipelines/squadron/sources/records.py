"""Records: the values of one line or row, keyed by column, that become pieces of text."""

import json
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import pyarrow as pa

from squadron.settings.schema import ColumnSettings
from squadron.sources.rows import BATCH_ROWS, Piece, Unreadable, known_id, not_text, wanted_columns

Record = tuple[int, Mapping[str, Any]]
"""The number of its line, or its row, and the values."""


class NoTextError(Exception):
    """A value is not text."""


def batches(records: Iterable[Record | Unreadable]) -> Iterator[list[Record] | Unreadable]:
    """Records by the thousand; what is unreadable among them comes at once."""
    batch: list[Record] = []
    for record in records:
        if isinstance(record, Unreadable):
            yield record
            continue
        batch.append(record)
        if len(batch) == BATCH_ROWS:
            yield batch
            batch = []
    if batch:
        yield batch


def pieces_of(
    records: Iterable[Record | Unreadable],
    column_names: Iterable[str],
    path: str,
    columns: ColumnSettings,
    unit: str = "line",
) -> Iterator[Piece | Unreadable]:
    """Records by the thousand, see `piece_of`."""
    for batch in batches(records):
        if isinstance(batch, Unreadable):
            yield batch
        else:
            yield from piece_of(batch, column_names, path, columns, unit)


def piece_of(
    records: list[Record], column_names: Iterable[str], path: str, columns: ColumnSettings, unit: str = "line"
) -> Iterator[Piece | Unreadable]:
    """Records as strings, those of the wanted columns that there are; before them, the records that are none."""
    names = [name for name in wanted_columns(columns) if name in set(column_names)]
    try:
        table = _table(records, names, columns)
    except NoTextError:
        sound = list[Record]()
        for number, record in records:
            try:
                _table([(number, record)], names, columns)
            except NoTextError as error:
                yield Unreadable(f"{path}, {unit} {number}", str(error), id_of(record, columns))
            else:
                sound.append((number, record))
        records, table = sound, _table(sound, names, columns)
    yield Piece(table, path, unit, [number for number, _ in records])


def id_of(record: Mapping[str, Any], columns: ColumnSettings) -> str | None:
    """The document's id in a record that is not sound otherwise."""
    if columns.document_id is None:
        return None
    try:
        return known_id(_text(record.get(columns.document_id), columns.document_id, columns))
    except NoTextError:
        return None


def _table(records: list[Record], names: list[str], columns: ColumnSettings) -> pa.Table:
    return pa.table(
        {
            name: pa.array([_text(record.get(name), name, columns) for _, record in records], pa.string())
            for name in names
        }
    )


def _text(value: Any, name: str, columns: ColumnSettings) -> str | None:
    """A JSON value as text: strings as they are, numbers as JSON writes them, but not where prose belongs."""
    if isinstance(value, str):
        if not value.isascii():
            try:
                value.encode()
            except UnicodeEncodeError:
                reason = f"{name!r} holds half of a surrogate pair, which is not text: mend the file"
                raise NoTextError(reason) from None  # the cause would hold the text
        return value
    if value is None:
        return None
    if isinstance(value, bool | int | float) and name not in (columns.text, columns.question):
        return json.dumps(value)
    raise NoTextError(not_text(repr(name), type(value).__name__, name, columns))
