"""pgvector's catalog: two tables beside those of the generations, and their compare-and-set.

`_generations` holds a record of each generation, `_live` says which one a collection points at. The rows of both have
a revision, and an update takes effect only on the revision before it.
"""

from dataclasses import asdict

import psycopg
from psycopg.errors import UndefinedColumn
from psycopg.rows import class_row

from squadron.stores.contract import LivePointer, StoredRecord
from squadron.stores.pgvector.connection import Database
from squadron.stores.record_revisions import absent_generation, stale_record

_READ = "SELECT generation, description::text, {} FROM _generations WHERE collection = %s ORDER BY generation"
_WRITE = """
UPDATE _generations SET description = %s, revision = revision + 1
WHERE generation = %s AND collection = %s AND revision = %s"""
_ADD_REVISIONS = "ALTER TABLE _generations ADD COLUMN IF NOT EXISTS revision bigint NOT NULL DEFAULT 1"
_POINTER = "SELECT collection, generation, previous, revision, promoted_at FROM _live WHERE collection = %s"
_MOVE = """
INSERT INTO _live (collection, generation, previous, revision, promoted_at)
VALUES (%(collection)s, %(generation)s, %(previous)s, %(revision)s, %(promoted_at)s)
ON CONFLICT (collection) DO UPDATE SET (generation, previous, revision, promoted_at) =
    (EXCLUDED.generation, EXCLUDED.previous, EXCLUDED.revision, EXCLUDED.promoted_at)
WHERE _live.revision = EXCLUDED.revision - 1"""


def records(client: Database, collection_name: str) -> dict[str, StoredRecord]:
    """The records of the collection's generations."""

    def read(connection: psycopg.Connection) -> dict[str, StoredRecord]:
        try:
            cursor = connection.execute(_READ.format("revision"), [collection_name])
        except UndefinedColumn:  # an earlier version of Squadron made the table, and nobody has written to it since
            cursor = connection.execute(_READ.format("1"), [collection_name])
        return {generation: StoredRecord(text, revision) for generation, text, revision in cursor}

    return client.answered("the generations could not be read", read)


def write_record(
    client: Database, collection_name: str, generation: str, record_text: str, expected_revision: int
) -> StoredRecord:
    """The record, written in place of the one with the expected revision."""

    def write(connection: psycopg.Connection) -> int:
        values = [record_text, generation, collection_name, expected_revision]
        try:
            return connection.execute(_WRITE, values).rowcount
        except UndefinedColumn:
            connection.execute(_ADD_REVISIONS)
            return connection.execute(_WRITE, values).rowcount

    record = StoredRecord(record_text, expected_revision + 1)
    if client.answered(f"the record of {generation!r} could not be written", write):
        return record
    stored = records(client, collection_name).get(generation)
    if stored == record:  # written, the answer was lost
        return record
    if not stored and not expected_revision:
        raise absent_generation(collection_name, generation)
    raise stale_record(generation, stored, expected_revision)


def pointer(client: Database, collection_name: str) -> LivePointer | None:
    """The live pointer."""

    def read(connection: psycopg.Connection) -> LivePointer | None:
        cursor = connection.cursor(row_factory=class_row(LivePointer))
        return cursor.execute(_POINTER, [collection_name]).fetchone()

    return client.answered("the live generation could not be read", read)


def moved(client: Database, new_pointer: LivePointer) -> bool:
    """Whether the pointer was moved: not when another run moved it first."""
    failed = f"{new_pointer.generation!r} could not be promoted"
    if client.answered(failed, lambda connection: connection.execute(_MOVE, asdict(new_pointer)).rowcount):
        return True
    return pointer(client, new_pointer.collection) == new_pointer  # moved, the answer was lost
