"""Small corpora for tests of the sources, and what a source gives of them."""

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet

from squadron.settings.registry import load
from squadron.settings.schema import ColumnSettings, SourceSettings
from squadron.sources.rows import Unreadable


def read(path: Path | str, name: str = "files", **changes: Any) -> tuple[list[dict[str, Any]], list[Unreadable]]:
    """The rows of a corpus, and what cannot be read of it. Takes changes of `source.*`, and of `source.columns.*`."""
    columns = {key: changes.pop(key) for key in list(changes) if key in ColumnSettings.model_fields}
    source = SourceSettings.model_validate({"name": name, "path": str(path), "columns": columns} | changes)
    items = list(load("sources", name).read_rows(source))
    unread = [item for item in items if isinstance(item, Unreadable)]
    return [row for rows in items if isinstance(rows, pa.RecordBatch) for row in rows.to_pylist()], unread


def texts(path: Path | str, name: str = "files", **changes: Any) -> list[str]:
    """The texts of a corpus all of which can be read."""
    rows, unread = read(path, name, **changes)
    assert not unread
    return [row["text"] for row in rows]


def records(*numbers: int, **changes: Any) -> list[dict[str, Any]]:
    """Documents with an id and a text."""
    return [{"id": f"d{n}", "context": f"text {n}"} | changes for n in numbers]


def write_lines(path: Path, rows: Iterable[dict[str, Any]]) -> Path:
    """JSON lines."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def write_parquet(path: Path, rows: list[dict[str, Any]] | pa.Table) -> Path:
    """A parquet file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    pa.parquet.write_table(rows if isinstance(rows, pa.Table) else pa.Table.from_pylist(rows), path)
    return path
