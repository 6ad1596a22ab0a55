"""pgvector's schema: the tables of the generations."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import psycopg
import pyarrow as pa
from psycopg.sql import SQL, Composed, Identifier, Literal

from squadron.stores.pgvector.connection import Database
from squadron.stores.record_revisions import first_record
from squadron.stores.record_schema import RECORD_COLUMNS

_GENERATION = """
CREATE TABLE {} (id text COLLATE "C" PRIMARY KEY, document_id text, title text, ordinal integer, text text,
    vector vector({}))"""


@dataclass(frozen=True)
class Table:
    """A generation's table, open."""

    database: Database
    name: str
    dimension: int
    columns: tuple[str, ...]
    """Their names, `id` the first."""

    @property
    def metadata_columns(self) -> tuple[str, ...]:
        """Their names: the columns beside those of every record."""
        return tuple(name for name in self.columns if name not in RECORD_COLUMNS)

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


def arrow(answer: Sequence[tuple[Any, ...]], columns: pa.Schema) -> pa.Table:
    """What a query answered, row by row, as a table."""
    values = zip(*answer, strict=True) if answer else [()] * len(columns)
    return pa.table(dict(zip(columns.names, map(list, values), strict=True)), columns)


def storable(text: str) -> str:
    """The text, U+FFFD in place of U+0000, which Postgres does not keep."""
    return text.replace("\0", "\ufffd")
