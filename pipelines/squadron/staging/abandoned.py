"""Leftovers: what dead runs have left in staging, and how the next run tells it from what is still wanted."""

import logging
import os
import re
import socket
import time
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

import fsspec

from squadron.staging.shards import safe_name

log = logging.getLogger(__name__)

ABANDONED_DAYS = 7
"""A folder that nothing was written to for so long is of a run that nobody takes up again."""


def process_run_id() -> str:
    """The id of a run of this process alone: it tells later runs whose folder that is."""
    return f"cli_{datetime.now(UTC):%Y%m%dT%H%M%S%f}_{socket.gethostname()}_{os.getpid()}"


def collect(staging: str, collection: str) -> list[str]:
    """Remove the folders that no run comes back to; their names.

    Those are the folders of processes of this machine that are gone, and those of other machines' processes and of
    Airflow's runs to which nothing was written for ABANDONED_DAYS.
    """
    filesystem, target = fsspec.core.url_to_fs(f"{staging.rstrip('/')}/{collection}")
    filesystem.invalidate_cache()
    collected = []
    try:
        for info in filesystem.ls(target, detail=True):
            name = info["name"].rstrip("/").rpartition("/")[2]
            if info["type"] == "directory" and (_is_of_dead_process(name) or _is_abandoned(filesystem, info)):
                filesystem.rm(info["name"], recursive=True)
                collected.append(name)
    except FileNotFoundError:
        pass  # there is none yet, or another run collects as well
    except OSError as error:
        log.warning("what dead runs left in %s cannot be removed: %s", target, error)
    if collected:
        log.info("removed from staging what dead runs have left: %s", ", ".join(collected))
    return collected


def changed_at(info: Mapping[str, Any]) -> float | None:
    """When a file was last written, as its filesystem tells: seconds since 1970. None: it does not tell."""
    found = info.get("mtime") or info.get("LastModified") or info.get("last_modified") or info.get("updated")
    if found is None:
        return None
    return float(found.timestamp() if isinstance(found, datetime) else found)


def _is_of_dead_process(name: str) -> bool:
    """Whether the folder bears the name of a process of this machine that is not there."""
    found = re.fullmatch(r"cli_\d{8}T\d+_(.+)_(\d+)", name)
    if not found or found[1] != safe_name(socket.gethostname()):
        return False
    try:
        os.kill(int(found[2]), 0)
    except ProcessLookupError:
        return True
    except PermissionError:
        pass  # another user's: it is there
    return False


def _is_abandoned(filesystem: Any, folder: Mapping[str, Any]) -> bool:
    files = filesystem.find(folder["name"], detail=True).values()
    times = [at for info in [folder, *files] if (at := changed_at(info)) is not None]
    return bool(times) and max(times) < time.time() - ABANDONED_DAYS * 86_400
