"""Text arrays: the columns of a parquet file, or of a data set, as text."""

import pyarrow as pa
import pyarrow.compute as pc

from squadron.errors import SourceError
from squadron.settings.schema import ColumnSettings
from squadron.sources.columns import setting_of

NOT_UTF8 = "holds bytes that are not UTF-8: convert the file"
_CONTROL_CHARACTERS = r"[\x00-\x08\x0e-\x1f]"


def as_text(
    column: pa.Array | pa.ChunkedArray, name: str, columns: ColumnSettings, path: str
) -> tuple[pa.Array, list[int]]:
    """A column as text, and the rows whose bytes are none: these are null. UUIDs are written as people write them.

    Raises SourceError, naming the file and the setting, when the column does not hold text.
    """
    array = _plain(column.combine_chunks() if isinstance(column, pa.ChunkedArray) else column)
    location, values = f"{path}: column {name!r}", array.type
    if pa.types.is_dictionary(values):
        values = values.value_type
    is_prose = name in (columns.text, columns.question)
    if pa.types.is_fixed_size_binary(values) or (is_prose and not any(is_text(values) for is_text in _TEXT_TYPES)):
        raise SourceError(not_text(location, values, name, columns))
    try:
        texts = array.cast(pa.string())
        texts.validate(full=True)
    except (pa.ArrowNotImplementedError, pa.ArrowInvalid) as error:
        if "UTF" in str(error):
            return _decoded(array)
        raise SourceError(not_text(location, array.type, name, columns)) from error
    return _without_raw_bytes(texts) if any(is_binary(values) for is_binary in _BINARY_TYPES) else (texts, [])


def not_text(location: str, value_type: object, column: str, columns: ColumnSettings) -> str:
    """The message for a value that is not text."""
    return f"{location} holds {value_type}, wanted text: set {setting_of(column, columns)} to another column"


def _plain(array: pa.Array) -> pa.Array:
    """The values that an extension type stands for."""
    if isinstance(array.type, pa.UuidType):
        return pa.array([None if value is None else str(value) for value in array.to_pylist()], pa.string())
    if isinstance(array.type, pa.Bool8Type):
        return array.cast(pa.bool_())
    return array.storage if isinstance(array, pa.ExtensionArray) else array


def _decoded(array: pa.Array) -> tuple[pa.Array, list[int]]:
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


def _without_raw_bytes(texts: pa.Array) -> tuple[pa.Array, list[int]]:
    """Bytes that happen to be UTF-8 and are no text: a number, a digest, a UUID."""
    raw = pc.fill_null(pc.match_substring_regex(texts, _CONTROL_CHARACTERS), False)
    if not pc.any(raw, min_count=0).as_py():
        return texts, []
    return pc.if_else(raw, None, texts), raw.to_numpy(zero_copy_only=False).nonzero()[0].tolist()


_TEXT_TYPES = (pa.types.is_string, pa.types.is_large_string, pa.types.is_string_view, pa.types.is_null)
_BINARY_TYPES = (pa.types.is_binary, pa.types.is_large_binary, pa.types.is_binary_view)
