"""Connections: where LanceDB is, and its keys, when `store.lancedb.uri` names an Airflow Connection instead.

`connection://NAME`: tasks and the page look NAME up as Airflow does. Elsewhere, as on the command line, it is what
Airflow itself would look at first: the variable AIRFLOW_CONN_<NAME> of the environment, as JSON. The keys of an
address are kept here, in memory; they are never settings.
"""

import json
import os
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from squadron.errors import SettingsError
from squadron.settings.home import home
from squadron.settings.schema import Settings

SCHEME = "connection://"
TYPE = "lancedb"
VARIABLE = "AIRFLOW_CONN_"
EXAMPLE = '{"conn_type": "lancedb", "host": "s3://bucket/folder", "login": "KEY ID", "password": "SECRET KEY"}'

_options: dict[str, dict[str, str]] = {}
"""Address -> options of LanceDB's object store."""


@dataclass(frozen=True)
class Connection:
    """What is used of an Airflow Connection, by Airflow's names."""

    conn_id: str
    conn_type: str | None = None
    host: str | None = None
    login: str | None = None
    password: str | None = field(default=None, repr=False)
    extra_dejson: dict[str, Any] = field(default_factory=dict, repr=False)


def of_environment(name: str) -> Connection | None:
    """The Connection that AIRFLOW_CONN_<NAME> holds. Raises SettingsError when it holds anything but JSON."""
    variable = f"{VARIABLE}{name.upper()}"
    if not (text := os.environ.get(variable)):
        return None
    try:
        parsed = json.loads(text)
        extra = parsed.get("extra") or {}
        extra = json.loads(extra) if isinstance(extra, str) else extra
    except (ValueError, AttributeError):  # what it holds may be a secret: the error does not show it
        raise SettingsError(f"the variable {variable} is not a JSON object: wanted one like {EXAMPLE}") from None
    values = {key: parsed.get(key) for key in ("conn_type", "host", "login", "password")}
    return Connection(name, **values, extra_dejson=extra)


def with_address(settings: Settings, connection_of: Callable[[str], Any]) -> Settings:
    """The settings, with LanceDB's address where they name a Connection; `connection_of` gives it, or None."""
    section = settings.store.lancedb
    if settings.store.name != TYPE or not section.uri.startswith(SCHEME):
        return settings
    placed = section.model_copy(update={"uri": located(section.uri, connection_of)})
    return settings.model_copy(update={"store": settings.store.model_copy(update={"lancedb": placed})})


def located(uri: str, connection_of: Callable[[str], Any] = of_environment) -> str:
    """The address of `connection://NAME`; of anything else, itself. The keys to it are kept for `storage_options`.

    Raises SettingsError when there is no such Connection, it is of another type, or says no address.
    """
    if not uri.startswith(SCHEME):
        return uri
    name = uri.removeprefix(SCHEME)
    if (connection := connection_of(name) if name else None) is None:
        raise SettingsError(
            f"store.lancedb.uri = {uri!r}: there is no Connection {name!r}. In Airflow, add it (Admin, Connections; "
            f"type LanceDB). On the command line, set the variable {VARIABLE}{name.upper()} to {EXAMPLE}, or "
            "store.lancedb.uri to the address itself"
        )
    where = address(connection)
    _options[where] = keys(connection)
    return where


def storage_options(uri: str) -> dict[str, str] | None:
    """What LanceDB is to open an address with; None where the environment says it, if anything has to."""
    return _options.get(uri) or None


def address(connection: Any) -> str:
    """Where the tables are. Raises SettingsError when the Connection does not say it, or is of another type."""
    if connection.conn_type != TYPE:
        raise SettingsError(f"Connection {connection.conn_id!r} is of type {connection.conn_type!r}: wanted {TYPE}")
    if not (where := (connection.host or "").strip()):
        raise SettingsError(
            f"Connection {connection.conn_id!r} has no address: wanted a folder or an object store's URI, like "
            "s3://bucket/folder, in its field 'Folder or URI' (host)"
        )
    return where if "://" in where else str(home() / Path(where).expanduser())


def keys(connection: Any) -> dict[str, str]:
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
