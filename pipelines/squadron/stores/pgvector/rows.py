"""pgvector's rows: copied into a temporary table, merged into the generation's in one transaction."""

from typing import Any

import psycopg
import pyarrow as pa
from psycopg.sql import SQL, Identifier

from squadron.stores.pgvector.schema import Table, listed, storable
from squadron.stores.record_schema import VECTOR_COLUMN

TYPES = {"ordinal": "int4", VECTOR_COLUMN: "vector"}
"""Of the columns that hold no text."""
# Ordered by id: two writers of the same rows would otherwise deadlock.
MERGE = "INSERT INTO {0} ({1}) SELECT {1} FROM incoming ORDER BY id ON CONFLICT (id) DO UPDATE SET {2}"


def write(table: Table, records: pa.Table) -> int:
    """The number of records written; rows with the same ids are replaced."""
    names = [name for name in table.columns if name in records.column_names]
    replaced = SQL(", ").join(SQL("{0} = EXCLUDED.{0}").format(Identifier(name)) for name in table.columns[1:])
    incoming = SQL("CREATE TEMP TABLE incoming (LIKE {}) ON COMMIT DROP").format(table.quoted)
    copied = SQL("COPY incoming ({}) FROM STDIN (FORMAT BINARY)").format(listed(names))
    merged = SQL(MERGE).format(table.quoted, listed(table.columns), replaced)
    columns = [values(records[name]) for name in names]

    def copy_and_merge(connection: psycopg.Connection) -> int:
        with connection.transaction(), connection.cursor() as cursor:
            cursor.execute(incoming)
            with cursor.copy(copied) as copy:
                copy.set_types([TYPES.get(name, "text") for name in names])
                for row in zip(*columns, strict=True):
                    copy.write_row(row)
            return cursor.execute(merged).rowcount

    return table.database.answered(f"{len(records)} rows could not be written to {table.name!r}", copy_and_merge)


def values(column: pa.ChunkedArray) -> Any:
    """The column's values, as psycopg takes them."""
    if pa.types.is_fixed_size_list(column.type):
        return column.combine_chunks().flatten().to_numpy(zero_copy_only=False).reshape(len(column), -1)
    return [storable(value) if isinstance(value, str) else value for value in column.to_pylist()]
