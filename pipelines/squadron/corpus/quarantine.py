"""Quarantine: what could not be read or embedded, and why; a table that a person can read.

It lies outside of the folders of runs, and workers share it. Plan and shards each write what they found into a file
of their own, so that nobody meets anybody, and what one has found is kept however the run ends. Every run tries all
of it again: passages that the store lacks are planned anew. So when a run is finished, what it found itself is all
there is, and it takes the place of what earlier runs have found.
"""

import logging
from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Any

import fsspec
import numpy as np
import pyarrow as pa

from squadron.errors import StoreError
from squadron.settings.schema import Settings
from squadron.sources.rows import Unreadable
from squadron.staging import shards as staging

log = logging.getLogger(__name__)

TEXT_CHARACTERS = 200
NO_TEXT = "the row has no text"
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
        ("place", pa.string()),  # of what cannot be read: the file and the line
    ]
)


class Findings:
    """What one part of a run found; at most `quarantine.max_rows` of it are kept."""

    def __init__(self, settings: Settings, run_id: str, part: str) -> None:
        self._path = f"{folder(settings)}/{staging.safe_name(run_id)}.{part}.parquet"
        self._limit = settings.quarantine.max_rows
        self._common = {"run_id": run_id, "first_seen": (now := _now()), "last_seen": now}
        self._service = settings.embedding.service
        self._entries: list[dict[str, Any]] = []
        self._rows = 0

    @staticmethod
    def forget(settings: Settings, run_id: str) -> None:
        """Remove what an earlier try of this run has found: its shards may have been others."""
        place = folder(settings)
        of_run = [name for name in staging.names(place) if name.startswith(f"{staging.safe_name(run_id)}.")]
        _remove(f"{place}/{name}" for name in of_run)

    def add_passages(self, passages: pa.Table, reasons: dict[int, str]) -> None:
        """Keep the passages that the embedding service refused: row -> its reason. Written at once."""
        for row, passage in zip(reasons, passages.take(pa.array(reasons, pa.int64())).to_pylist(), strict=True):
            place = f"passage {passage['id']} of document {passage['document_id']}"
            log.warning("%s is in quarantine: %s", place, reasons[row])
            self._add(
                document_id=passage["document_id"],
                title=passage["title"],
                passage_id=passage["id"],
                reason=reasons[row],
                service=self._service,
                text=passage["text"],
            )
        if reasons:
            self.write()

    def add_rows(self, rows: pa.RecordBatch, blank: np.ndarray) -> None:
        """Take notice of a batch of the corpus; `bool [rows]`: which of its documents have no text."""
        if blank.any() and len(self._entries) < self._limit:
            for row in blank.nonzero()[0].tolist():
                names = {name: rows[name][row].as_py() for name in ("document_id", "title")}
                self._add(**names, row=self._rows + row + 1, reason=NO_TEXT)
        self._rows += rows.num_rows

    def add_unreadable(self, item: Unreadable) -> None:
        """Keep what cannot be read of the corpus."""
        self._add(document_id=item.document_id, place=item.place, reason=item.reason)

    def clear(self) -> None:
        """Forget what was found: the corpus is read once more."""
        self._entries, self._rows = [], 0

    def write(self) -> None:
        """Write what was found so far; what an earlier try of this part has found is no more."""
        if self._entries:
            staging.write_table(self._path, pa.Table.from_pylist(self._entries, SCHEMA))
        else:
            _remove([self._path])

    def _add(self, text: str | None = None, **facts: Any) -> None:
        if len(self._entries) < self._limit:
            shown = None if text is None else text[:TEXT_CHARACTERS]
            self._entries.append({**self._common, **facts, "text": shown})


def folder(settings: Settings) -> str:
    """Where a collection's quarantine is."""
    place = settings.quarantine.path or f"{settings.ingest.staging.rstrip('/')}/_quarantine"
    return f"{place.rstrip('/')}/{settings.collection}"


def listed(settings: Settings) -> list[dict[str, Any]]:
    """The collection's quarantine, what was seen last first: the columns of `SCHEMA`, plain enough for JSON.

    Until a run is finished, what it found stands beside what earlier runs have found.
    """
    return _merged(_read(settings).values())[: settings.quarantine.max_rows]


def settle(settings: Settings, run_id: str) -> None:
    """What this run found becomes the table; what it found no more was stored, or has left the corpus."""
    tables = _read(settings)
    if not tables:
        return
    entries = [entry for entry in _merged(tables.values()) if entry["run_id"] == run_id]
    limit = settings.quarantine.max_rows
    if len(entries) > limit:
        log.warning("%d are in quarantine, quarantine.max_rows = %d of them are listed", len(entries), limit)
    table = f"{folder(settings)}/{TABLE}"
    if entries:
        staging.write_table(table, pa.Table.from_pylist(entries[:limit], SCHEMA))
    _remove(path for path in tables if path != table or not entries)


def _read(settings: Settings) -> dict[str, list[dict[str, Any]]]:
    """Path -> entries of every file there is."""
    place, tables = folder(settings), dict[str, list[dict[str, Any]]]()
    for name in staging.names(place):
        if name.endswith(".parquet"):
            try:
                rows = staging.read_table(f"{place}/{name}").to_pylist()
            except StoreError:  # a run was finished, and has removed it since it was seen
                continue
            except (OSError, pa.ArrowInvalid) as error:
                log.warning("%s/%s cannot be read and is passed over: %s", place, name, error)
                rows = []
            tables[f"{place}/{name}"] = [{column: row.get(column) for column in SCHEMA.names} for row in rows]
    return tables


def _merged(tables: Iterable[list[dict[str, Any]]]) -> list[dict[str, Any]]:
    """Each row or passage once: as it was seen last, and since when."""
    merged: dict[Any, dict[str, Any]] = {}
    for entry in sorted((entry for table in tables for entry in table), key=lambda entry: str(entry["last_seen"])):
        key = entry["passage_id"] or ("document", entry["document_id"] or entry["place"] or entry["row"])
        since = merged.pop(key, entry)["first_seen"]
        merged[key] = entry | {"first_seen": since}
    return sorted(merged.values(), key=lambda entry: (entry["last_seen"], entry["first_seen"]), reverse=True)


def _remove(paths: Iterable[str]) -> None:
    for path in paths:
        filesystem, target = fsspec.core.url_to_fs(path)
        if filesystem.exists(target):
            filesystem.rm_file(target)


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="milliseconds")
