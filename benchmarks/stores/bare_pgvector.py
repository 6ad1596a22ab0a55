"""psycopg, pgvector's bare client: the same statements over rows that are tuples already."""

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import psycopg
import pyarrow as pa
from psycopg.sql import SQL, Identifier

from squadron.settings.store_sections import PgvectorSettings
from squadron.stores.pgvector import rows, schema
from squadron.stores.pgvector.connection import Database
from tests.stores import postgres

TYPES = {"ordinal": "int4", "vector": "vector"}


@contextmanager
def served() -> Iterator[PgvectorSettings]:
    """Settings for a Postgres that is removed afterwards."""
    programs = postgres.programs()
    if programs is None:
        raise SystemExit(postgres.WANTED)
    with postgres.running(programs) as server:
        os.environ["PGPASSWORD"] = server.password
        yield PgvectorSettings(uri=server.uri)


@contextmanager
def connected(settings: PgvectorSettings) -> Iterator[psycopg.Connection]:
    """A connection of the client."""
    database = Database(settings)
    yield database.answered("the database does not answer", lambda connection: connection)
    database.close()


def actions(
    client: psycopg.Connection, generation: schema.Table, calls: list[pa.Table], expired: pa.Array
) -> dict[str, Callable[[], int]]:
    """What is timed."""
    table, names = Identifier(generation.name), calls[0].column_names
    batches = [list(zip(*(rows.values(call[name]) for name in names), strict=True)) for call in calls]
    incoming = SQL("CREATE TEMP TABLE incoming (LIKE {}) ON COMMIT DROP").format(table)
    copied = SQL("COPY incoming ({}) FROM STDIN (FORMAT BINARY)").format(schema.listed(names))
    updates = SQL(", ").join(SQL("{0} = EXCLUDED.{0}").format(Identifier(name)) for name in names[1:])
    merged = SQL(rows.MERGE).format(table, schema.listed(names), updates)
    ids = expired.to_pylist()

    def write() -> int:
        written = 0
        for batch in batches:
            with client.transaction(), client.cursor() as cursor:
                cursor.execute(incoming)
                with cursor.copy(copied) as copy:
                    copy.set_types([TYPES.get(name, "text") for name in names])
                    for row in batch:
                        copy.write_row(row)
                written += cursor.execute(merged).rowcount
        return written

    return {
        "write": write,
        "list": lambda: len(client.execute(SQL("SELECT id FROM {} ORDER BY id").format(table)).fetchall()),
        "delete": lambda: client.execute(SQL("DELETE FROM {} WHERE id = ANY(%s)").format(table), [ids]).rowcount,
    }
