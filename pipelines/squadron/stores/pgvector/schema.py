"""pgvector's schema: the tables of the generations."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import psycopg
import pyarrow as pa
from psycopg.sql import SQL, Composed, Identifier, Literal

from squadron.stores.pgvector.connection import Database
from squadron.stores.record_revisions import first_record

_GENERATION = """
CREATE TABLE {} (id text COLLATE "C" PRIMARY KEY, document_id text, title text, ordinal integer, text text,
    vector vector({}))"""
MERGE = "INSERT INTO {0} ({1}) SELECT {1} FROM incoming ORDER BY id ON CONFLICT (id) DO UPDATE SET {2}"
SEARCH = """
SELECT {columns}
FROM (SELECT *, vector {operator} %s AS _distance FROM {table} WHERE {where}) AS measured
ORDER BY {order} LIMIT {limit}"""


@dataclass(frozen=True)
class Table:
    """A generation's table, open."""

    database: Database
    name: str
    dimension: int
    columns: tuple[str, ...]
    """Their names, `id` the first."""

    @property
    def quoted(self) -> Identifier:
        """Its name in SQL."""
        return Identifier(self.name)


def opened(database: Database, connection: psycopg.Connection, generation: str) -> tuple[Table, str] | None:
    """The generation's table and metric; None when there is no such generation."""
    booked = rows(connection, "SELECT dimension, metric FROM _generations WHERE generation = %s", generation)
    if not booked:
        return None
    columns = connection.execute(SQL("SELECT * FROM {} LIMIT 0").format(Identifier(generation))).description or []
    ((dimension, metric),) = booked
    return Table(database, generation, dimension, tuple(column.name for column in columns)), metric


def create(connection: psycopg.Connection, collection_name: str, generation: str, dimension: int, metric: str) -> None:
    """Create the generation's table and its first record, unless another run was faster."""
    insert = """
        INSERT INTO _generations (generation, collection, dimension, metric, description)
        VALUES (%s, %s, %s, %s, %s) ON CONFLICT DO NOTHING"""
    values = [generation, collection_name, dimension, metric, first_record().text]
    with connection.transaction():  # another run that inserts the same waits here for the end of this one
        if connection.execute(insert, values).rowcount:
            connection.execute(SQL(_GENERATION).format(Identifier(generation), Literal(dimension)))


def rows(connection: psycopg.Connection, query: str | SQL | Composed, *values: object) -> list[tuple[Any, ...]]:
    """What the query answers."""
    return connection.execute(query, values).fetchall()


def listed(names: Sequence[str]) -> Composed:
    """The names in SQL, quoted, with commas between them."""
    return SQL(", ").join(map(Identifier, names))


def values(column: pa.ChunkedArray) -> Any:
    """The column's values, as psycopg takes them."""
    if pa.types.is_fixed_size_list(column.type):
        return column.combine_chunks().flatten().to_numpy(zero_copy_only=False).reshape(len(column), -1)
    return [storable(value) if isinstance(value, str) else value for value in column.to_pylist()]


def storable(text: str) -> str:
    """The text, U+FFFD in place of U+0000, which Postgres does not keep."""
    return text.replace("\0", "\ufffd")
