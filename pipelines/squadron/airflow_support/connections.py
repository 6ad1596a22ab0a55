"""Connections: what a run, or the page, takes from Airflow's Connections: secrets, and LanceDB's address."""

import os
from collections.abc import Callable
from typing import Protocol

from squadron.settings.connections import with_address
from squadron.settings.credentials import required_credentials
from squadron.settings.schema import Settings


class AirflowConnection(Protocol):
    """What is used of a Connection; Airflow's task SDK and its server each have a class for it."""

    @property
    def password(self) -> str | None: ...


def apply_connections(settings: Settings, connection_of: Callable[[str], AirflowConnection | None]) -> Settings:
    """Put the secrets of the configured backends into the environment, where their clients look for them.

    `connection_of` gives the Connection of a name, or None. Without a Connection the environment stays as it is: it
    holds the secret, or the client says what is missing. Returns the settings with LanceDB's address filled in, where
    they name a Connection. Raises SettingsError when that Connection is missing or has no address.
    """
    for credential in required_credentials(settings):
        connection = connection_of(credential.connection)
        if connection and connection.password:
            os.environ[credential.variable] = connection.password
    return with_address(settings, connection_of)
