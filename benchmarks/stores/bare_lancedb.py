"""LanceDB's bare client: the same statements on tables that have the stored schema already."""

import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import lancedb
import pyarrow as pa

from squadron.settings.store_sections import LanceDBSettings

IDS_PER_DELETE = 5_000


@contextmanager
def served() -> Iterator[LanceDBSettings]:
    """Settings for a folder that is removed afterwards."""
    with tempfile.TemporaryDirectory() as folder:
        yield LanceDBSettings(uri=folder)


@contextmanager
def connected(settings: LanceDBSettings) -> Iterator[None]:
    """Nothing: a table is all that the client needs."""
    yield None


def actions(
    client: None, generation: lancedb.table.Table, calls: list[pa.Table], expired: pa.Array
) -> dict[str, Callable[[], int]]:
    """What is timed."""
    tables = [call.select(generation.schema.names).cast(generation.schema) for call in calls]
    ids = [expired[start : start + IDS_PER_DELETE].to_pylist() for start in range(0, len(expired), IDS_PER_DELETE)]
    filters = ["id IN (" + ", ".join(f"'{key}'" for key in part) + ")" for part in ids]
    upsert = generation.merge_insert("id").when_matched_update_all().when_not_matched_insert_all()
    return {
        "write": lambda: sum(upsert.execute(table).num_inserted_rows for table in tables),
        "list": lambda: generation.search().select(["id"]).to_arrow().num_rows,
        "delete": lambda: sum(generation.delete(where).num_deleted_rows for where in filters),
    }
