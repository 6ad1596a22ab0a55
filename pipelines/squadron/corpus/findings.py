"""Findings: what one part of a run could not read or embed, on its way into the quarantine."""

import logging
from datetime import UTC, datetime

import numpy as np
import pyarrow as pa

from squadron.corpus.quarantine import SCHEMA, QuarantineEntry, folder, remove_files
from squadron.settings.schema import Settings
from squadron.sources.rows import Unreadable
from squadron.staging import shards as staging

log = logging.getLogger(__name__)

TEXT_CHARACTERS = 200
"""What is kept of a refused text: its beginning."""
NO_TEXT = "the row has no text"


class Findings:
    """What one part of a run found; at most `quarantine.max_rows` of it are kept."""

    def __init__(self, settings: Settings, run_id: str, part: str) -> None:
        self._path = f"{folder(settings)}/{staging.safe_name(run_id)}.{part}.parquet"
        self._limit = settings.quarantine.max_rows
        self._run_id, self._now = run_id, datetime.now(UTC).isoformat(timespec="milliseconds")
        self._service = settings.embedding.service
        self._entries: list[QuarantineEntry] = []
        self._rows = 0

    @staticmethod
    def forget(settings: Settings, run_id: str) -> None:
        """Remove the findings of an earlier try of this run: its shards may have been others."""
        directory = folder(settings)
        of_run = [name for name in staging.names(directory) if name.startswith(f"{staging.safe_name(run_id)}.")]
        remove_files(f"{directory}/{name}" for name in of_run)

    def add_passages(self, passages: pa.Table, reasons: dict[int, str]) -> None:
        """Keep the passages that the embedding service refused: row -> its reason. Written at once."""
        for row, passage in zip(reasons, passages.take(pa.array(reasons, pa.int64())).to_pylist(), strict=True):
            names = f"passage {passage['id']} of document {passage['document_id']}"
            log.warning("%s is in quarantine: %s", names, reasons[row])
            self._add(
                reasons[row],
                document_id=passage["document_id"],
                title=passage["title"],
                passage_id=passage["id"],
                service=self._service,
                text=passage["text"][:TEXT_CHARACTERS],
            )
        if reasons:
            self.write()

    def add_rows(self, rows: pa.RecordBatch, blank: np.ndarray) -> None:
        """Take notice of a batch of the corpus; `blank`, `bool [rows]`: which of its documents have no text."""
        if blank.any() and len(self._entries) < self._limit:
            for row in blank.nonzero()[0].tolist():
                document_id, title = rows["document_id"][row].as_py(), rows["title"][row].as_py()
                self._add(NO_TEXT, document_id=document_id, title=title, row=self._rows + row + 1)
        self._rows += rows.num_rows

    def add_unreadable(self, item: Unreadable) -> None:
        """Keep what cannot be read of the corpus."""
        self._add(item.reason, document_id=item.document_id, place=item.place)

    def clear(self) -> None:
        """Forget the findings: the corpus is read once more."""
        self._entries, self._rows = [], 0

    def write(self) -> None:
        """Write the findings so far, in place of those of an earlier try of this part."""
        if self._entries:
            staging.write_table(self._path, pa.Table.from_pylist(self._entries, SCHEMA))
        else:
            remove_files([self._path])

    def _add(
        self,
        reason: str,
        document_id: str | None,
        title: str | None = None,
        passage_id: str | None = None,
        row: int | None = None,
        service: str | None = None,
        text: str | None = None,
        place: str | None = None,
    ) -> None:
        if len(self._entries) >= self._limit:
            return
        entry = QuarantineEntry(
            document_id=document_id,
            title=title,
            passage_id=passage_id,
            row=row,
            reason=reason,
            service=service,
            first_seen=self._now,
            last_seen=self._now,
            run_id=self._run_id,
            text=text,
            place=place,
        )
        self._entries.append(entry)
