"""Allowed paths: which paths and addresses the params of a run may name.

Who may trigger a run need not be allowed to read every file of a worker, nor to have a service's key sent to a server
of their choice. What `config/` and Airflow Variables say is taken as it is; params may name the same places, folders
and addresses below them, files in `data/`, data sets of the hub, and what the variable SQUADRON_ALLOWED_PATHS of the
environment lists: folders and beginnings of addresses, with spaces between them; `*` allows all.
"""

import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from squadron.errors import SettingsError
from squadron.settings.addresses import bears_secret
from squadron.settings.home import home

VARIABLE = "SQUADRON_ALLOWED_PATHS"
HUB = "hf://datasets/"


def refuse_foreign(key: str, value: Any, known: Any, layer: str) -> None:
    """Raise SettingsError when the value of a setting that is a path or an address is none that params may name.

    `known`: the setting's value without the params.
    """
    allowed = [str(home() / "data"), HUB, *os.environ.get(VARIABLE, "").split()]
    if "*" in allowed:
        return
    for address in _each(value):
        if not any(_within(address, root) for root in [*_each(known), *allowed]):
            raise SettingsError(
                f"{key} = {address!r} (from {layer}): params may name {', '.join([*_each(known), *allowed])}, and what "
                f"is below. For more, somebody with access to the workers sets {VARIABLE} there, or the setting in "
                "config/ or in an Airflow Variable"
            )


def is_allowed(path: str) -> bool:
    """Whether SQUADRON_ALLOWED_PATHS names a file of a disk, or a folder above it."""
    allowed = [folder for folder in os.environ.get(VARIABLE, "").split() if "://" not in folder]
    return "*" in allowed or any(_within(path, folder) for folder in allowed)


def refuse_secrets(key: str, value: Any, layer: str) -> None:
    """Raise SettingsError when the value of a setting that is a path or an address bears a password or a key.

    Settings are shown: in logs, in XCom, in reports.
    """
    if any(bears_secret(address) for address in _each(value)):
        raise SettingsError(
            f"{key} (from {layer}) bears a password or a key, and settings are shown in logs and reports: take it out. "
            "Secrets belong in Airflow Connections, or in the variables of the environment that the service's own "
            "client reads (docs/backends.md)"
        )


def _each(value: Any) -> Iterable[str]:
    return [value] if isinstance(value, str) else [address for address in value or () if isinstance(address, str)]


def _within(address: str, root: str) -> bool:
    address, root = (text.removeprefix("file://") for text in (address, root))
    if "://" in address or "://" in root:
        return address == root or (address.startswith(root.rstrip("/") + "/") and ".." not in address.split("/"))
    return Path(os.path.realpath(address)).is_relative_to(os.path.realpath(root))
