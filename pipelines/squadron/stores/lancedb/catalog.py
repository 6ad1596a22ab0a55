"""LanceDB's catalog: two tables beside those of the generations, and their compare-and-set.

`_generations` holds a record of each generation, `_live` says which one a collection points at. The rows of both have
a revision, and an update takes effect only on the revision before it.
"""

from dataclasses import asdict
from typing import Any

import pyarrow as pa

from squadron.stores.contract import LivePointer, StoredRecord
from squadron.stores.lancedb.runtime import lancedb
from squadron.stores.lancedb.tables import KEY, Database, alone, equal, reported, table, table_names
from squadron.stores.record_revisions import absent_generation, first_record, stale_record

_SCHEMAS = {
    "_generations": pa.schema(
        [
            pa.field("generation", pa.string(), nullable=False, metadata=KEY),
            pa.field("collection", pa.string()),
            pa.field("description", pa.string()),
            pa.field("revision", pa.int64()),
        ]
    ),
    "_live": pa.schema(
        [
            pa.field("collection", pa.string(), nullable=False, metadata=KEY),
            pa.field("generation", pa.string()),
            pa.field("previous", pa.string()),
            pa.field("revision", pa.int64()),
            pa.field("promoted_at", pa.string()),
        ]
    ),
}
COLUMN_TRIES = 5
_ONE_REVISION_LATER = "target.revision = source.revision - 1"


def records(client: Database, collection_name: str) -> dict[str, StoredRecord]:
    """The records of the collection's generations that exist."""
    existing = table_names(client)
    rows = _rows(client, "_generations", collection=collection_name)
    return {row["generation"]: _record(row) for row in rows if row["generation"] in existing}


def owner(client: Database, generation: str) -> str | None:
    """The collection that the generation belongs to; None when it has no record."""
    rows = _rows(client, "_generations", generation=generation)
    return rows[0]["collection"] if rows else None


def begin_record(client: Database, collection_name: str, generation: str) -> None:
    """Write a generation's first record, unless it has one."""
    if owner(client, generation) is None:
        _written(client, "_generations", _row(collection_name, generation, first_record()), replaced=None)


def write_record(
    client: Database, collection_name: str, generation: str, record_text: str, expected_revision: int
) -> StoredRecord:
    """The record, written in place of the one with the expected revision."""
    if not expected_revision and generation not in table_names(client):
        raise absent_generation(collection_name, generation)
    record = StoredRecord(record_text, expected_revision + 1)
    replaced = f"{_ONE_REVISION_LATER} AND target.collection = source.collection" if expected_revision else None
    row = _row(collection_name, generation, record)
    if _written(client, "_generations", row, replaced, added=not expected_revision):
        return record
    stored = records(client, collection_name).get(generation)
    raise stale_record(generation, stored, expected_revision)


def remove_record(client: Database, generation: str) -> None:
    """Remove a generation's record."""
    client.connection.open_table("_generations").delete(equal({"generation": generation}))


def pointer(client: Database, collection_name: str) -> LivePointer | None:
    """The live pointer."""
    rows = _rows(client, "_live", collection=collection_name)
    return LivePointer(**rows[0]) if rows else None


def moved(client: Database, pointer: LivePointer) -> bool:
    """Whether the pointer was moved: not when another run moved it first."""
    return _written(client, "_live", asdict(pointer), _ONE_REVISION_LATER)


def _rows(client: Database, name: str, **values: str) -> list[dict[str, Any]]:
    """The rows of a catalog table that have these values; none while nobody has written to it."""
    with reported(f"{name} in {client.uri} could not be read"):
        if not client.exists():
            return []
        try:
            opened = client.connection.open_table(name)
        except ValueError:  # there is no such table
            return []
        return opened.search().where(equal(values)).to_arrow().to_pylist()


def _written(client: Database, name: str, row: dict[str, Any], replaced: str | None, added: bool = True) -> bool:
    """Whether the row was written: as a new one if it may be added, or in place of its key's if `replaced` holds."""
    schema = _SCHEMAS[name]
    opened = table(client, name, schema)
    with reported(f"{opened.uri} could not be written"):
        if "revision" not in opened.schema.names:
            _add_revisions(client, opened)
        merge = opened.merge_insert(schema.names[0])
        merge = merge.when_not_matched_insert_all() if added else merge
        merge = merge.when_matched_update_all(where=replaced) if replaced else merge
        done = merge.execute(pa.Table.from_pylist([row], schema))
    return bool(done.num_inserted_rows + done.num_updated_rows)


def _add_revisions(client: Database, records: lancedb.table.Table) -> None:
    """Give the records that an earlier version of Squadron wrote the revision 1."""
    for attempt in range(COLUMN_TRIES):
        with alone(client):
            records.checkout_latest()
            if "revision" in records.schema.names:
                return
            try:
                records.add_columns({"revision": "cast(1 as bigint)"})
            except (OSError, RuntimeError, ValueError):  # another run wrote at the same time
                if attempt == COLUMN_TRIES - 1:
                    raise


def _row(collection_name: str, generation: str, record: StoredRecord) -> dict[str, Any]:
    return {
        "generation": generation,
        "collection": collection_name,
        "description": record.text,
        "revision": record.revision,
    }


def _record(row: dict[str, Any]) -> StoredRecord:
    return StoredRecord(row["description"], row.get("revision") or 1)
