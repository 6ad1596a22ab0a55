"""Files: parquet, JSONL, CSV or SQuAD's own JSON, by path, folder, glob or fsspec URI."""

import json
from collections.abc import Callable, Iterable, Iterator
from itertools import islice
from typing import Any, BinaryIO

import fsspec
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet

from pipelines.errors import SourceError
from pipelines.settings import ColumnSettings, SourceSettings
from pipelines.sources.rows import renamed_rows

BATCH_ROWS = 1000


def read_rows(source: SourceSettings) -> Iterator[pa.RecordBatch]:
    """The rows of every matching file, files in the order of their names, in batches of at most 1,000.

    Raises SourceError when nothing matches, a file is of no known format, or a file is broken (with the line).
    """
    for path in _paths(source.path or ""):  # settings see to it that there is one
        yield from read_file(path, source.columns)


def read_file(path: str, columns: ColumnSettings) -> Iterator[pa.RecordBatch]:
    """The rows of one file; its format is its name's ending (`.gz` and the like are unpacked)."""
    reader = _reader(path)
    try:
        with fsspec.open(path, "rb", compression="infer") as file:
            for table in reader(file, path, columns):
                if table.num_rows:
                    yield renamed_rows(table, columns, path)
    except (pa.ArrowInvalid, EOFError) as error:
        raise SourceError(f"{path} cannot be read: {error}") from error
    except PermissionError as error:
        raise SourceError(f"{path} may not be read: {error.strerror or error}") from error


def _paths(pattern: str) -> list[str]:
    filesystem, root = fsspec.core.url_to_fs(pattern)
    if filesystem.isdir(root):
        found = [path for path in filesystem.find(root) if _format(path)]
        wanted = f"a folder with files of the formats {', '.join(_READERS)}"
    else:
        found = filesystem.glob(root) if any(c in root for c in "*?[") else [root] * filesystem.isfile(root)
        wanted = "a file, a folder or a glob"
    if not found:
        raise SourceError(f"source.path {pattern!r} matches no file: wanted {wanted}")
    return [filesystem.unstrip_protocol(path) if "://" in pattern else path for path in sorted(found)]


def _format(path: str) -> str | None:
    name = path.lower()
    for packed in (".gz", ".bz2", ".xz", ".zst"):
        name = name.removesuffix(packed)
    return next((ending for ending in _READERS if name.endswith("." + ending)), None)


def _reader(path: str) -> "_Reader":
    ending = _format(path)
    if ending is None:
        raise SourceError(f"{path} is of no known format: wanted a name ending in {', '.join(_READERS)}")
    return _READERS[ending]


def _parquet(file: BinaryIO, path: str, columns: ColumnSettings) -> Iterator[pa.RecordBatch]:
    parquet = pyarrow.parquet.ParquetFile(file)
    yield from parquet.iter_batches(BATCH_ROWS, columns=_wanted(parquet.schema_arrow.names, columns))


def _csv(file: BinaryIO, path: str, columns: ColumnSettings) -> Iterator[pa.RecordBatch]:
    header = pyarrow.csv.open_csv(file, parse_options=pyarrow.csv.ParseOptions(newlines_in_values=True)).schema.names
    file.seek(0)
    yield from pyarrow.csv.open_csv(
        file,
        parse_options=pyarrow.csv.ParseOptions(newlines_in_values=True),
        convert_options=pyarrow.csv.ConvertOptions(
            column_types={name: pa.string() for name in header}, strings_can_be_null=True, null_values=[""]
        ),
    )


def _json_lines(file: BinaryIO, path: str, columns: ColumnSettings) -> Iterator[pa.Table]:
    records = (_record(line, number, path) for number, line in enumerate(file, 1) if line.strip())
    yield from _tables(records, columns)


def _record(line: bytes, number: int, path: str) -> dict[str, Any]:
    try:
        record = json.loads(line.decode("utf-8-sig" if number == 1 else "utf-8"))
    except UnicodeDecodeError as error:
        raise SourceError(
            f"{path}, line {number}: byte {error.start + 1} of the line is not UTF-8: convert the file"
        ) from error
    except json.JSONDecodeError as error:
        raise SourceError(f"{path}, line {number}: not JSON: {error}") from error
    if not isinstance(record, dict):
        raise SourceError(f"{path}, line {number}: wanted a JSON object, found {type(record).__name__}")
    return record


def _squad_json(file: BinaryIO, path: str, columns: ColumnSettings) -> Iterator[pa.Table]:
    """SQuAD v1.1 and v2.0: `{"data": [{"title", "paragraphs": [{"context", "qas": [...]}]}]}`."""
    try:
        articles = json.load(file)["data"]
        records = [row for article in articles for row in _article_rows(article, columns)]
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise SourceError(
            f"{path} is not SQuAD's JSON ({type(error).__name__}: {error}): "
            "wanted data > paragraphs > context; other JSON is read line by line from a .jsonl file"
        ) from error
    yield from _tables(records, columns)


def _article_rows(article: dict[str, Any], columns: ColumnSettings) -> Iterator[dict[str, Any]]:
    for paragraph in article["paragraphs"]:
        document = {columns.title or "title": article.get("title"), columns.text: paragraph["context"]}
        # The questions of v2.0 that the paragraph does not answer cannot tell whether search finds it.
        answered = [qa for qa in paragraph.get("qas", ()) if not qa.get("is_impossible")]
        for qa in answered or [{}]:
            question = {columns.question: qa.get("question"), columns.question_id: qa.get("id")}
            yield document | {name: value for name, value in question.items() if name}


def _wanted(names: Iterable[str], columns: ColumnSettings) -> list[str]:
    """The columns to read; all of them if there is no text column: the error then lists what there is."""
    found = list(names)
    if columns.text not in found:
        return found
    named = {columns.text, columns.title, columns.document_id, columns.question, columns.question_id}
    return [name for name in found if name in named | set(columns.metadata)]


def _tables(records: Iterable[dict[str, Any]], columns: ColumnSettings) -> Iterator[pa.Table]:
    """Records as tables; a column is there if any record of the batch has it."""
    iterator = iter(records)
    while batch := list(islice(iterator, BATCH_ROWS)):
        names = _wanted(dict.fromkeys(name for record in batch for name in record), columns)
        yield pa.table({name: pa.array([_scalar(record.get(name)) for record in batch]) for name in names})


def _scalar(value: Any) -> Any:
    """JSON values that one column may mix, as text; lists and objects stay what they are."""
    return str(value) if isinstance(value, bool | int | float) else value


_Reader = Callable[[BinaryIO, str, ColumnSettings], Iterable[pa.Table | pa.RecordBatch]]
_READERS: dict[str, _Reader] = {
    "parquet": _parquet,
    "jsonl": _json_lines,
    "ndjson": _json_lines,
    "csv": _csv,
    "json": _squad_json,
}
