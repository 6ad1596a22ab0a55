"""Records: the values of one line or row, keyed by column, that become pieces of text."""

import json
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import numpy as np
import pyarrow as pa

from squadron.settings.schema import ColumnSettings
from squadron.sources.answered import ANSWERS, IS_IMPOSSIBLE, has_no_answer
from squadron.sources.columns import wanted_columns
from squadron.sources.corpus_file import CorpusFile
from squadron.sources.rows import BATCH_ROWS, Piece, Unreadable, known_id
from squadron.sources.text_arrays import not_text

_ABSENT = object()
Record = tuple[int, Mapping[str, Any]]
"""The number of its line, or its row, and the values."""


class NoTextError(Exception):
    """A value is not text."""


def batches(records: Iterable[Record | Unreadable]) -> Iterator[list[Record] | Unreadable]:
    """Records by the thousand; what is unreadable among them comes at once, and those before an error before it."""
    batch: list[Record] = []
    try:
        for record in records:
            if isinstance(record, Unreadable):
                yield record
                continue
            batch.append(record)
            if len(batch) == BATCH_ROWS:
                yield batch
                batch = []
    except Exception:
        if batch:
            yield batch
        raise
    if batch:
        yield batch


def pieces_of(
    records: Iterable[Record | Unreadable], names: Iterable[str], file: CorpusFile, unit: str = "line"
) -> Iterator[Piece | Unreadable]:
    """Records by the thousand, see `piece_of`."""
    for batch in batches(records):
        if isinstance(batch, Unreadable):
            yield batch
        else:
            yield from piece_of(batch, names, file, unit)


def piece_of(
    records: list[Record], names: Iterable[str], file: CorpusFile, unit: str = "line"
) -> Iterator[Piece | Unreadable]:
    """Records as strings, those of the wanted columns that there are; before them, the records that are none."""
    present = set(names)
    chosen = [name for name in wanted_columns(file.columns) if name in present]
    try:
        table = _table(records, chosen, file.columns)
    except NoTextError:
        sound = list[Record]()
        for number, record in records:
            try:
                _table([(number, record)], chosen, file.columns)
            except NoTextError as error:
                yield Unreadable(f"{file.shown_path}, {unit} {number}", str(error), id_of(record, file.columns))
            else:
                sound.append((number, record))
        records, table = sound, _table(sound, chosen, file.columns)
    unanswered = None
    if ANSWERS in present or IS_IMPOSSIBLE in present:
        unanswered = np.array([has_no_answer(record) for _, record in records], bool)
    yield Piece(
        table, file.shown_path, unit, [number for number, _ in records], file.folder_values, unanswered=unanswered
    )


def names_in(records: Iterable[Mapping[str, Any]], columns: ColumnSettings, most: int) -> dict[str, None]:
    """The names of the records' values, so many at the most, and of all wanted values, those in objects too."""
    names = dict[str, None]()
    for record in records:
        names |= dict.fromkeys(record)
        if len(names) > most:
            break
    wanted = [name for name in (*wanted_columns(columns), ANSWERS, IS_IMPOSSIBLE) if name not in names]
    for name in wanted:
        if any(_value(record, name) is not _ABSENT for record in records):
            names[name] = None
    return names


def id_of(record: Mapping[str, Any], columns: ColumnSettings) -> str | None:
    """The document's id in a record that is not sound otherwise."""
    if columns.document_id is None:
        return None
    try:
        return known_id(_text(_value(record, columns.document_id), columns.document_id, columns))
    except NoTextError:
        return None


def _table(records: list[Record], names: list[str], columns: ColumnSettings) -> pa.Table:
    return pa.table(
        {
            name: pa.array(
                [
                    _text(record[name] if name in record else _value(record, name), name, columns)
                    for _, record in records
                ],
                pa.string(),
            )
            for name in names
        }
    )


def _value(record: Mapping[str, Any], name: str) -> Any:
    """The value of that name, or the one that its parts lead to, object by object."""
    if name in record:
        return record[name]
    value: Any = record
    for part in name.split(".") if "." in name else [name]:
        if not isinstance(value, Mapping) or part not in value:
            return _ABSENT
        value = value[part]
    return value


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
        return "" if name in (columns.text, columns.document_id) else None
    if value is _ABSENT:
        return None
    if isinstance(value, bool | int | float) and name not in (columns.text, columns.question):
        return json.dumps(value)
    raise NoTextError(not_text(repr(name), type(value).__name__, name, columns))
