"""Revisions of a generation's record: a writer says which one it has read, and is refused when there is another."""

import json
from datetime import UTC, datetime

from squadron.errors import StaleRecordError, StoreError
from squadron.stores.contract import StoredRecord


def first_record() -> StoredRecord:
    """The record that a generation is created with: a run that dies at once leaves one that can be collected."""
    return StoredRecord(json.dumps({"created_at": datetime.now(UTC).isoformat(timespec="milliseconds")}), 1)


def next_record(generation: str, record_text: str, stored: StoredRecord | None, expected_revision: int) -> StoredRecord:
    """The record to be written after the stored one. Raises StaleRecordError when that is not the expected one."""
    if (stored.revision if stored else 0) != expected_revision:
        raise stale_record(generation, stored, expected_revision)
    return StoredRecord(record_text, expected_revision + 1)


def stale_record(generation: str, stored: StoredRecord | None, expected_revision: int) -> StaleRecordError:
    """The error for a record that another run wrote first."""
    present = f"revision {stored.revision}" if stored else "no record"
    return StaleRecordError(
        f"the record of {generation!r} was not written: the store holds {present}, this run expected "
        f"{f'revision {expected_revision}' if expected_revision else 'no record'}. Another run was faster: read the "
        "record again"
    )


def absent_generation(collection_name: str, generation: str) -> StoreError:
    """The error for a record of a generation that is not there."""
    return StoreError(f"collection {collection_name!r} has no generation {generation!r}: its record was not written")
