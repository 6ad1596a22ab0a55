"""pgvector's schema: the connection to it, the tables of the generations, and the two that keep the books.

`_generations` describes each generation, `_live` says which one a collection points at.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import psycopg
import pyarrow as pa
from pgvector.psycopg import register_vector
from psycopg.conninfo import conninfo_to_dict, make_conninfo
from psycopg.sql import SQL, Composed, Identifier, Literal

from pipelines.errors import StoreError

_BOOKS = """
CREATE EXTENSION IF NOT EXISTS vector;
CREATE SCHEMA IF NOT EXISTS {schema};
CREATE TABLE IF NOT EXISTS {schema}._generations (generation text PRIMARY KEY, collection text NOT NULL,
    dimension integer NOT NULL, metric text NOT NULL, description json NOT NULL);
CREATE TABLE IF NOT EXISTS {schema}._live (collection text PRIMARY KEY, previous text, revision bigint NOT NULL,
    generation text NOT NULL REFERENCES {schema}._generations, promoted_at text NOT NULL)"""
_GENERATION = """
CREATE TABLE {} (id text COLLATE "C" PRIMARY KEY, document_id text, title text, ordinal integer, text text,
    vector vector({}))"""
MERGE = "INSERT INTO {0} ({1}) SELECT {1} FROM incoming ORDER BY id ON CONFLICT (id) DO UPDATE SET {2}"
SEARCH = """
SELECT id, document_id, title, text, {score}
FROM (SELECT *, vector {operator} %s AS distance FROM {table} WHERE {where}) AS measured
ORDER BY {order} LIMIT {limit}"""
MOVE = """
INSERT INTO _live (collection, generation, previous, revision, promoted_at)
VALUES (%(collection)s, %(generation)s, %(previous)s, %(revision)s, %(promoted_at)s)
ON CONFLICT (collection) DO UPDATE SET (generation, previous, revision, promoted_at) =
    (EXCLUDED.generation, EXCLUDED.previous, EXCLUDED.revision, EXCLUDED.promoted_at)
WHERE _live.revision = EXCLUDED.revision - 1"""


@dataclass(frozen=True)
class Table:
    """A generation's table, open."""

    connection: psycopg.Connection
    name: str
    dimension: int
    columns: tuple[str, ...]
    """Their names, `id` the first."""

    @property
    def quoted(self) -> Identifier:
        """Its name in SQL."""
        return Identifier(self.name)


def connected(uri: str, schema: str) -> psycopg.Connection:
    """A connection with the schema first on its path, created if absent: direct, or a pooler's in session mode.

    Raises StoreError, naming the setting and where the password comes from.
    """
    with reported(f"store.pgvector.uri {uri!r} (its password: PGPASSWORD or ~/.pgpass) cannot be connected to"):
        options: dict[str, Any] = {"connect_timeout": 10, "keepalives_idle": 60, "application_name": "squadron"}
        connection = psycopg.connect(make_conninfo("", **options | conninfo_to_dict(uri)), autocommit=True)
    with reported(f"store.pgvector.schema_name {schema!r} or the extension vector is absent and cannot be created"):
        if rows(connection, "SELECT to_regclass(%s)", f'"{schema}"._live') == [(None,)]:
            # One connection at a time: IF NOT EXISTS does not keep two from creating the same thing.
            books = SQL("SELECT pg_advisory_xact_lock(hashtext('squadron'));" + _BOOKS)
            connection.execute(books.format(schema=Identifier(schema)))
        path = "SELECT set_config('search_path', quote_ident(%s) || ', ' || current_setting('search_path'), false)"
        connection.execute(path, [schema])
        register_vector(connection)
    return connection


def opened(client: psycopg.Connection, generation: str) -> tuple[Table, str] | None:
    """The generation's table and metric; None when there is no such generation."""
    booked = rows(client, "SELECT dimension, metric FROM _generations WHERE generation = %s", generation)
    if not booked:
        return None
    columns = client.execute(SQL("SELECT * FROM {} LIMIT 0").format(Identifier(generation))).description or []
    ((dimension, metric),) = booked
    return Table(client, generation, dimension, tuple(column.name for column in columns)), metric


def create(client: psycopg.Connection, collection_name: str, generation: str, dimension: int, metric: str) -> None:
    """Create the generation's table, unless another run was faster, and book it."""
    booked = "INSERT INTO _generations VALUES (%s, %s, %s, %s, '{}') ON CONFLICT DO NOTHING"
    with client.transaction():  # another run that books it waits here for the end of this one
        if client.execute(booked, [generation, collection_name, dimension, metric]).rowcount:
            client.execute(SQL(_GENERATION).format(Identifier(generation), Literal(dimension)))


def rows(client: psycopg.Connection, query: str | SQL | Composed, *values: object) -> list[tuple[Any, ...]]:
    """What the query answers."""
    return client.execute(query, values).fetchall()


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


@contextmanager
def reported(what: str) -> Iterator[None]:
    """What Postgres and its client raise, as a StoreError."""
    try:
        yield
    except psycopg.Error as error:
        raise StoreError(f"{what}: {error}") from error
