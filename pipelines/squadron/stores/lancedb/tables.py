"""LanceDB's tables: how they are opened and created, and what is said to them in SQL."""

import re
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import timedelta
from functools import cached_property
from pathlib import Path

import pyarrow as pa

from squadron.errors import StoreError
from squadron.settings.connections import storage_options
from squadron.stores.lancedb.runtime import lancedb

# What `Table.set_unenforced_primary_key` sets. Without a key, two writers of one new row both insert it; set in
# the schema, the key is there from the first version on.
KEY = {b"lance-schema:unenforced-primary-key:position": b"1"}
ALWAYS_CURRENT = timedelta(0)
"""An open table shows what other handles and processes have written since it was opened."""
_DISK = re.compile("No space left|Read-only|Permission denied|quota", re.IGNORECASE)


@dataclass(frozen=True)
class Database:
    """A folder, or the URI of an object store. Nothing is created before the first table is."""

    uri: str

    @cached_property
    def connection(self) -> lancedb.DBConnection:
        """Connected when it is first asked for, which creates the folder."""
        return lancedb.connect(
            self.uri, storage_options=storage_options(self.uri), read_consistency_interval=ALWAYS_CURRENT
        )

    @property
    def folder(self) -> Path | None:
        """The local folder; None for an object store."""
        place = self.uri.removeprefix("file://")
        return None if "://" in place else Path(place).expanduser().absolute()

    def exists(self) -> bool:
        """Whether there is anything to read. Raises OSError where there could be no folder."""
        if not self.folder:
            return True
        nearest = next(path for path in (self.folder, *self.folder.parents) if path.exists())
        if not nearest.is_dir():
            raise NotADirectoryError(f"{nearest} is not a folder")
        return nearest == self.folder


def table(client: Database, name: str, schema: pa.Schema) -> lancedb.table.Table:
    """The table, created if absent."""
    with reported(f"store.lancedb.uri {client.uri!r} cannot be written"):
        with suppress(ValueError):  # there is no such table
            return client.connection.open_table(name)
        with alone(client):
            with suppress(ValueError):  # nor did another writer create it meanwhile
                return client.connection.open_table(name)
            return client.connection.create_table(name, schema=schema)


def table_names(client: Database) -> set[str]:
    """The tables that exist, the catalog's included."""
    with reported(f"store.lancedb.uri {client.uri!r} cannot be read"):
        if not client.exists():
            return set()
        page = client.connection.list_tables(limit=1000)
        names = set(page.tables)
        while page.page_token:
            page = client.connection.list_tables(page_token=page.page_token, limit=1000)
            names.update(page.tables)
    return names


@contextmanager
def alone(client: Database) -> Iterator[None]:
    """One process and thread at a time may create tables and columns in a folder.

    LanceDB's create_table replaces a table, rows and all, that another writer created since it looked. In an
    object store nothing keeps two runs from that, but that one task creates a generation before others write.
    """
    if not client.folder:
        yield
        return
    from filelock import FileLock  # 0.03 s, which searches do without

    with FileLock(client.folder / "_creating.lock"):
        yield


@contextmanager
def reported(what: str) -> Iterator[None]:
    """What LanceDB raises, as a StoreError."""
    try:
        yield
    except (OSError, RuntimeError, ValueError) as error:
        reason = re.sub(r", \S*/\.cargo/\S+$", "", str(error))
        advice = (
            "; make room, or let this user write there (store.lancedb.uri), then run again"
            if _DISK.search(reason)
            else ""
        )
        raise StoreError(f"{what}: {reason}{advice}") from error


def equal(values: dict[str, str]) -> str:
    """SQL: each of the columns has its value. Names stand in backticks, for `null` and `order` are names too."""
    return " AND ".join(f"`{name}` = {quoted(value)}" for name, value in values.items())


def among(name: str, values: list[str]) -> str:
    """SQL: the column has one of the values."""
    return f"`{name}` IN ({', '.join(map(quoted, values))})"


def quoted(value: str) -> str:
    """SQL: the text."""
    return "'" + value.replace("'", "''") + "'"
