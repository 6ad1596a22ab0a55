"""Quarantine: what could not be read or embedded, and why; a table that a person can read.

It lies outside of the folders of runs, and workers share it. Plan and shards each write their findings into a file of
their own, so that writers do not meet, and the findings stay however the run ends. Every run tries all of it again:
passages that the store lacks are planned again. So when a run is finished, its own findings are complete, and they
replace those of earlier runs.
"""

import logging
from collections.abc import Iterable
from typing import Any, TypedDict

import fsspec
import pyarrow as pa

from squadron.errors import StoreError
from squadron.settings.schema import Settings
from squadron.staging import shards as staging

log = logging.getLogger(__name__)

TABLE = "table.parquet"
SCHEMA = pa.schema(
    [
        ("document_id", pa.string()),
        ("title", pa.string()),
        ("passage_id", pa.string()),
        ("row", pa.int64()),  # of the corpus, the first is 1; of rows without a text
        ("reason", pa.string()),
        ("service", pa.string()),
        ("first_seen", pa.string()),
        ("last_seen", pa.string()),
        ("run_id", pa.string()),
        ("text", pa.string()),  # its beginning
        ("place", pa.string()),  # the file and the line of what cannot be read
    ]
)


class QuarantineEntry(TypedDict):
    """A row or a passage in quarantine, plain enough for JSON; the columns of `SCHEMA`."""

    document_id: str | None
    title: str | None
    passage_id: str | None
    row: int | None
    reason: str
    service: str | None
    first_seen: str
    """ISO 8601, in UTC."""
    last_seen: str
    run_id: str
    text: str | None
    place: str | None


def folder(settings: Settings) -> str:
    """Where a collection's quarantine is."""
    root = settings.quarantine.path or f"{settings.ingest.staging.rstrip('/')}/_quarantine"
    return f"{root.rstrip('/')}/{settings.collection}"


def listed(settings: Settings) -> list[QuarantineEntry]:
    """The collection's quarantine, what was seen last first.

    Until a run is finished, its findings stand beside those of earlier runs.
    """
    return _merged(_read(settings).values())[: settings.quarantine.max_rows]


def settle(settings: Settings, run_id: str) -> None:
    """Make this run's findings the table: all else of earlier runs is stored by now, or has left the corpus."""
    files = _read(settings)
    if not files:
        return
    entries = [entry for entry in _merged(files.values()) if entry["run_id"] == run_id]
    limit = settings.quarantine.max_rows
    if len(entries) > limit:
        log.warning("%d are in quarantine, quarantine.max_rows = %d of them are listed", len(entries), limit)
    table = f"{folder(settings)}/{TABLE}"
    if entries:
        staging.write_table(table, pa.Table.from_pylist(entries[:limit], SCHEMA))
    remove_files(path for path in files if path != table or not entries)


def _read(settings: Settings) -> dict[str, list[QuarantineEntry]]:
    """Path -> entries of every file there is."""
    directory, files = folder(settings), dict[str, list[QuarantineEntry]]()
    for name in staging.names(directory):
        if name.endswith(".parquet"):
            try:
                rows = staging.read_table(f"{directory}/{name}").to_pylist()
            except StoreError:  # a run was finished, and has removed it since it was listed
                continue
            except (OSError, pa.ArrowInvalid) as error:
                log.warning("%s/%s cannot be read and is passed over: %s", directory, name, error)
                rows = []
            # A file of an earlier version may lack columns.
            files[f"{directory}/{name}"] = [
                _entry({column: row.get(column) for column in SCHEMA.names}) for row in rows
            ]
    return files


def _entry(row: dict[str, Any]) -> QuarantineEntry:
    return QuarantineEntry(**row)  # type: ignore[typeddict-item]


def _merged(files: Iterable[list[QuarantineEntry]]) -> list[QuarantineEntry]:
    """Each row or passage once: as it was seen last, and since when."""
    merged: dict[object, QuarantineEntry] = {}
    for entry in sorted((entry for entries in files for entry in entries), key=lambda entry: str(entry["last_seen"])):
        key = entry["passage_id"] or ("document", entry["document_id"] or entry["place"] or entry["row"])
        since = merged.pop(key, entry)["first_seen"]
        merged[key] = {**entry, "first_seen": since}
    return sorted(merged.values(), key=lambda entry: (entry["last_seen"], entry["first_seen"]), reverse=True)


def remove_files(paths: Iterable[str]) -> None:
    """Remove the files that are there."""
    for path in paths:
        filesystem, target = fsspec.core.url_to_fs(path)
        if filesystem.exists(target):
            filesystem.rm_file(target)
