"""A Connection of type LanceDB: where the tables are, and the keys of an S3 object store.

Its form is in pipelines/connection_types.py, which Airflow finds by the package's entry point. A run takes its address
and keys from the Connection where `store.lancedb.uri` says so: `connection://lancedb_default`.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from airflow.sdk import BaseHook

SCHEME = "connection://"


class LanceDBHook(BaseHook):
    """What "Test connection" asks."""

    conn_name_attr = "lancedb_conn_id"
    default_conn_name = "lancedb_default"
    conn_type = "lancedb"
    hook_name = "LanceDB"

    def __init__(self, lancedb_conn_id: str = default_conn_name, **_: Any) -> None:
        super().__init__()
        self.lancedb_conn_id = lancedb_conn_id

    def get_conn(self) -> Any:
        """The database. Raises SettingsError when the Connection says no address."""
        from pipelines.stores.lancedb_runtime import lancedb

        connection = self.get_connection(self.lancedb_conn_id)
        return lancedb.connect(address(connection), storage_options=_keys(connection))

    def test_connection(self) -> tuple[bool, str]:
        """Whether it answers, and what is there."""
        from pipelines.stores.lancedb_tables import Database

        try:
            where = address(self.get_connection(self.lancedb_conn_id))
            if not Database(where).exists():
                return True, f"There is nothing at {where} yet: the first run creates the folder"
            tables = len(self.get_conn().list_tables().tables)
        except Exception as error:  # whatever it is, the person who asks is to be told
            return False, f"{type(error).__name__}: {error}"
        return True, f"{tables} tables at {where}"


def address(connection: Any) -> str:
    """Where the tables are. Raises SettingsError when the Connection does not say it, or is of another type."""
    from pipelines.errors import SettingsError
    from pipelines.settings import home

    if connection.conn_type != LanceDBHook.conn_type:
        raise SettingsError(f"Connection {connection.conn_id!r} is of type {connection.conn_type!r}: wanted lancedb")
    if not (where := (connection.host or "").strip()):
        raise SettingsError(
            f"Connection {connection.conn_id!r} has no address: wanted a folder or an object store's URI, like "
            "s3://bucket/folder, in its field 'Folder or URI'"
        )
    return where if "://" in where else str(home() / Path(where).expanduser())


def located(uri: str) -> str:
    """The address of `connection://NAME`, after the keys of that Connection were put where LanceDB looks for them."""
    if not uri.startswith(SCHEME):
        return uri
    connection = BaseHook.get_connection(uri.removeprefix(SCHEME))
    where = address(connection)
    os.environ.update({name.upper(): value for name, value in _keys(connection).items()})
    return where


def _keys(connection: Any) -> dict[str, str]:
    """Options of LanceDB's object store, those that the Connection has."""
    extra = connection.extra_dejson
    endpoint = extra.get("endpoint")
    options = {
        "aws_access_key_id": connection.login,
        "aws_secret_access_key": connection.password,
        "aws_region": extra.get("region"),
        "aws_endpoint": endpoint,
        "aws_allow_http": "true" if str(endpoint).startswith("http://") else None,
    }
    return {name: str(value) for name, value in options.items() if value}
