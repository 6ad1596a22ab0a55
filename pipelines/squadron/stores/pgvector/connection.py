"""pgvector's connection: opened again after it was lost, and the work that was under way is repeated.

A restart of Postgres, or a standby that takes over, ends all connections. Postgres rolls back the transaction that was
under way, so each piece of work is repeated as a whole. A transaction may also have been committed and its answer lost:
each piece of work must give the same result when it is done twice.
"""

from collections.abc import Callable
from threading import Lock
from typing import Any, TypeVar

import psycopg
from pgvector.psycopg import register_vector
from psycopg.conninfo import conninfo_to_dict, make_conninfo
from psycopg.sql import SQL, Identifier

from squadron.errors import StoreError
from squadron.process.retries import Failure, Retries
from squadron.settings.store_sections import PgvectorSettings

T = TypeVar("T")

_CATALOG = """
CREATE EXTENSION IF NOT EXISTS vector;
CREATE SCHEMA IF NOT EXISTS {schema};
CREATE TABLE IF NOT EXISTS {schema}._generations (generation text PRIMARY KEY, collection text NOT NULL,
    dimension integer NOT NULL, metric text NOT NULL, description json NOT NULL,
    revision bigint NOT NULL DEFAULT 1);
CREATE TABLE IF NOT EXISTS {schema}._live (collection text PRIMARY KEY, previous text, revision bigint NOT NULL,
    generation text NOT NULL REFERENCES {schema}._generations, promoted_at text NOT NULL)"""
# https://www.postgresql.org/docs/current/errcodes-appendix.html: shut down or starting, no connection or room for one,
# a deadlock, a write that met another
_PASSING = {"57P01", "57P02", "57P03", "53300", "40P01", "40001"}
# What a server says that answers but opens no connection yet: psycopg has no code for it.
_PASSING_WORDS = ("starting up", "shutting down", "recovery mode", "not yet accepting", "too many", "connection slots")


class Database:
    """The connection to the schema. Any number of threads may share it."""

    def __init__(self, settings: PgvectorSettings) -> None:
        self._settings = settings
        self._connection: psycopg.Connection | None = None
        self._lock = Lock()

    def answered(self, what: str, work: Callable[[psycopg.Connection], T]) -> T:
        """What the work returns; it is done again as a whole while the server is away.

        Raises StoreError, saying `what` failed, when that does not pass, or lasts for `deadline_seconds`.
        """
        connection: psycopg.Connection | None = None

        def attempt() -> T:
            nonlocal connection
            connection = None
            connection = self._opened()
            return work(connection)

        def failure(failed: Exception) -> Failure:
            unopened = isinstance(failed, _UnopenedError)
            error, doing = (failed.__cause__, f"{failed}") if unopened else (failed, what)
            reason = " ".join(str(error).split()).removesuffix(".")
            if connection and connection.closed:
                reason += f" (store.pgvector.uri {self._settings.uri!r})"
            return Failure(doing, reason, _may_pass(error, connection))

        retries = Retries("store.pgvector", self._settings.deadline_seconds)
        return retries.answer(attempt, (psycopg.Error, _UnopenedError), failure, StoreError)

    def close(self) -> None:
        """Close it; closing again does nothing."""
        with self._lock:
            if self._connection:
                self._connection.close()
                self._connection = None

    def _opened(self) -> psycopg.Connection:
        with self._lock:
            if self._connection is None or self._connection.closed:
                self._connection = _connected(self._settings)
            return self._connection


class _UnopenedError(Exception):
    """There is no connection; the message names the setting."""


def _connected(settings: PgvectorSettings) -> psycopg.Connection:
    """A connection with the schema first on its path, created if absent: direct, or a pooler's in session mode."""
    uri, schema = settings.uri, settings.schema_name
    options: dict[str, Any] = {"connect_timeout": 10, "application_name": "squadron", "keepalives_idle": 60}
    options |= {"keepalives_interval": 10, "keepalives_count": 3, "tcp_user_timeout": 90_000}
    try:
        connection = psycopg.connect(make_conninfo("", **options | conninfo_to_dict(uri)), autocommit=True)
    except psycopg.Error as error:
        attempt = f"store.pgvector.uri {uri!r} (its password: PGPASSWORD or ~/.pgpass) cannot be connected to"
        raise _UnopenedError(attempt) from error
    try:
        _prepare(connection, schema)
    except psycopg.Error as error:
        connection.close()
        attempt = f"store.pgvector.schema_name {schema!r} or the extension vector is absent and cannot be created"
        raise _UnopenedError(attempt) from error
    return connection


def _prepare(connection: psycopg.Connection, schema: str) -> None:
    if connection.execute("SELECT to_regclass(%s)", [f'"{schema}"._live']).fetchall() == [(None,)]:
        # One connection at a time: IF NOT EXISTS does not keep two from creating the same thing.
        tables = SQL("SELECT pg_advisory_xact_lock(hashtext('squadron'));" + _CATALOG)
        connection.execute(tables.format(schema=Identifier(schema)))
    path = "SELECT set_config('search_path', quote_ident(%s) || ', ' || current_setting('search_path'), false)"
    connection.execute(path, [schema])
    register_vector(connection)


def _may_pass(error: BaseException | None, connection: psycopg.Connection | None) -> bool:
    """Whether the server may do better soon: there is none, it is busy, or it has ended the connection."""
    if isinstance(error, psycopg.Error) and error.sqlstate:
        return error.sqlstate in _PASSING or error.sqlstate.startswith("08")
    if connection:
        return connection.closed
    reason = str(error)
    return "password" not in reason and ("FATAL:" not in reason or any(words in reason for words in _PASSING_WORDS))
