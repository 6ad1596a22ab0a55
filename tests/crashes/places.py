"""Places: a store of each kind for runs that are killed, with what can kill them from outside."""

from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from copy import copy, deepcopy
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import Any

import psycopg

from tests.crashes.kills import KillingFaults, Reaper, SocketProxy
from tests.stores.postgres import Postgres
from tests.wire.pinecone_server import PineconeServer
from tests.wire.weaviate_server import WeaviateServer

PINECONE_KEY = "pcsk_crash_0123456789abcdef"
Restore = Callable[[], None]


@dataclass
class Place:
    """A store."""

    name: str
    values: Callable[[Path], dict[str, Any]]
    """The settings that lead to it, given the folder of a case."""
    snapshot: Callable[[], Restore]
    """Keeps what is in the store now; what it returns brings that back. LanceDB is a part of the case's folder."""
    environment: dict[str, str]
    reaper: Reaper | None = None
    """Counts its requests; None where there are none."""


@contextmanager
def lancedb_place() -> Iterator[Place]:
    yield Place("lancedb", lambda folder: {"store.lancedb.uri": str(folder / "lancedb")}, lambda: lambda: None, {})


@contextmanager
def pinecone_place(kill: Callable[[], None]) -> Iterator[Place]:
    with PineconeServer(PINECONE_KEY) as server:

        def snapshot() -> Restore:
            def copied(namespaces: dict[str, Any]) -> dict[str, Any]:
                return {
                    name: copy_of(space, rows=dict(space.rows), log=deque(space.log), matrix=None)
                    for name, space in namespaces.items()
                }

            kept = copied(server.root.namespaces)
            return lambda: setattr(server.root, "namespaces", copied(kept))

        server.faults = KillingFaults(Reaper(kill))
        values = {"store.pinecone.host": server.url}
        yield Place("pinecone", lambda _: values, snapshot, {"PINECONE_API_KEY": PINECONE_KEY}, server.faults.reaper)


@contextmanager
def weaviate_place(kill: Callable[[], None]) -> Iterator[Place]:
    with WeaviateServer() as server:

        def snapshot() -> Restore:
            kept = deepcopy((server.database.classes, server.database.aliases))

            def restore() -> None:
                server.database.classes, server.database.aliases = deepcopy(kept)

            return restore

        server.faults = KillingFaults(Reaper(kill))
        values = {"store.weaviate.uri": server.uri, "store.weaviate.grpc_port": server.grpc_port}
        yield Place("weaviate", lambda _: values, snapshot, {}, server.faults.reaper)


@contextmanager
def pgvector_place(kill: Callable[[], None], server: Postgres) -> Iterator[Place]:
    folder = Path(server.uri.partition("host=")[2])
    reaper, between, numbers = Reaper(kill), folder / "between", count()
    between.mkdir()

    def run(*statements: str) -> None:
        with psycopg.connect(server.uri, password=server.password, autocommit=True) as connection:
            for statement in statements:
                connection.execute(statement)

    def snapshot() -> Restore:
        name = f"kept_{next(numbers)}"
        run(f"CREATE DATABASE {name} TEMPLATE work")
        return lambda: run("DROP DATABASE work WITH (FORCE)", f"CREATE DATABASE work TEMPLATE {name}")

    run("CREATE DATABASE work")
    with SocketProxy(between / ".s.PGSQL.5432", str(folder / ".s.PGSQL.5432"), reaper):
        environment = {"PGPASSWORD": server.password, "PGPASSFILE": "/dev/null"}
        uri = server.uri.replace("/postgres?", "/work?").replace(str(folder), str(between))
        yield Place("pgvector", lambda _: {"store.pgvector.uri": uri}, snapshot, environment, reaper)


def copy_of(thing: Any, **changes: Any) -> Any:
    """A shallow copy with other attributes."""
    made = copy(thing)
    for name, value in changes.items():
        setattr(made, name, value)
    return made
