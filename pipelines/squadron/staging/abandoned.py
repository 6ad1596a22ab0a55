"""Abandoned: what dead runs have left behind, and how the next run tells it from what a live run needs."""

import logging
import os
import re
import socket
import time
from collections.abc import Mapping
from contextlib import suppress
from datetime import UTC, datetime
from typing import Any

import fsspec

from squadron.process.atomic_file import PART
from squadron.staging.shards import safe_name

log = logging.getLogger(__name__)

ABANDONED_DAYS = 7
"""Nobody takes up a run whose folder had no write for this long, and nobody still writes a file that is as old."""
_DAY_SECONDS = 86_400


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


def sweep(path: str) -> int:
    """Remove what killed writers left below a folder, unless it is young enough to be written now; the file count."""
    filesystem, root = fsspec.core.url_to_fs(path)
    limit, swept = time.time() - ABANDONED_DAYS * _DAY_SECONDS, 0
    try:
        files = filesystem.find(root, detail=True) if filesystem.exists(root) else {}
        for name, info in files.items():
            if name.endswith(PART) and (changed_at(info) or limit) < limit:
                with suppress(FileNotFoundError):  # somebody else removed it
                    filesystem.rm_file(name)
                    swept += 1
    except OSError as error:
        log.warning("what killed runs left in %s cannot be removed: %s", path, error)
    return swept


def changed_at(info: Mapping[str, Any]) -> float | None:
    """When a file was last written, in seconds since 1970; None where its file system does not say."""
    written_at = info.get("mtime") or info.get("LastModified") or info.get("last_modified") or info.get("updated")
    if written_at is None:
        return None
    return float(written_at.timestamp() if isinstance(written_at, datetime) else written_at)


def _is_of_dead_process(name: str) -> bool:
    """Whether the folder bears the name of a process of this machine that is not there."""
    process = re.fullmatch(r"cli_\d{8}T\d+_(.+)_(\d+)", name)
    if not process or process[1] != safe_name(socket.gethostname()):
        return False
    try:
        os.kill(int(process[2]), 0)
    except ProcessLookupError:
        return True
    except PermissionError:
        pass  # another user's: it is there
    return False


def _is_abandoned(filesystem: Any, folder: Mapping[str, Any]) -> bool:
    files = filesystem.find(folder["name"], detail=True).values()
    times = [at for info in [folder, *files] if (at := changed_at(info)) is not None]
    return bool(times) and max(times) < time.time() - ABANDONED_DAYS * _DAY_SECONDS
