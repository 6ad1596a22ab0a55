"""A Connection of type LanceDB: where the tables are, and the keys of an S3 object store.

Its form is in squadron/airflow_support/connection_types.py, which Airflow finds by the package's entry point. Runs and
the page take address and keys from it where `store.lancedb.uri` says `connection://lancedb_default`
(squadron/settings/connections.py).
"""

from __future__ import annotations

from typing import Any

from airflow.sdk import BaseHook


class LanceDBHook(BaseHook):
    """The hook behind the button "Test connection"."""

    conn_name_attr = "lancedb_conn_id"
    default_conn_name = "lancedb_default"
    conn_type = "lancedb"
    hook_name = "LanceDB"

    def __init__(self, lancedb_conn_id: str = default_conn_name, **_: Any) -> None:
        super().__init__()
        self.lancedb_conn_id = lancedb_conn_id

    def get_conn(self) -> Any:
        """The database. Raises SettingsError when the Connection has no address."""
        from squadron.settings.connections import address, keys
        from squadron.stores.lancedb.runtime import lancedb

        connection = self.get_connection(self.lancedb_conn_id)
        return lancedb.connect(address(connection), storage_options=keys(connection))

    def test_connection(self) -> tuple[bool, str]:
        """Whether the database answers, and how many tables it holds."""
        from squadron.settings.connections import address
        from squadron.stores.lancedb.tables import Database

        try:
            uri = address(self.get_connection(self.lancedb_conn_id))
            if not Database(uri).exists():
                return True, f"There is nothing at {uri} yet: the first run creates the folder"
            tables = len(self.get_conn().list_tables().tables)
        except Exception as error:  # whatever it is, the form shows it
            return False, f"{type(error).__name__}: {error}"
        return True, f"{tables} tables at {uri}"
