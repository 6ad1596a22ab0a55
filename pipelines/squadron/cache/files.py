"""Files of the cache: written whole or not at all, counted, and removed when they are old."""

import time
from typing import Any

import fsspec
import pyarrow as pa
import pyarrow.parquet

from squadron.errors import StoreError
from squadron.process.atomic_file import PART, AtomicFile
from squadron.staging.abandoned import changed_at

CUTS_ENDING = ".cuts"
"""The end of the name of a file that says where documents are cut."""
BROKEN = (OSError, pa.ArrowInvalid, KeyError)
"""What a damaged file raises when it is read."""
_DAY_SECONDS = 86_400


def write_table(filesystem: Any, target: str, table: pa.Table) -> str:
    """Write a table as parquet, with checksums; a reader sees all of it or nothing. Returns its name."""
    try:
        with AtomicFile(filesystem, target) as file:
            pyarrow.parquet.write_table(table, file, compression="none", use_dictionary=False, write_page_checksum=True)
    except OSError as error:
        raise _refused(target, "written", error) from error
    return target


def listed(filesystem: Any, folder: str, ending: str) -> list[str]:
    """The files of a folder whose names end so; none where there is no folder."""
    try:
        names = filesystem.ls(folder, detail=False)
    except FileNotFoundError:
        return []
    except OSError as error:
        raise StoreError(f"cache.path: {folder} cannot be read: {error.strerror or error}") from error
    return sorted(name for name in names if name.endswith(ending))


def cache_size(path: str) -> dict[str, Any]:
    """How much the cache holds: vector spaces, files, bytes, and the age of the oldest file in days."""
    files = _all_files(path)
    ages = [time.time() - info["mtime"] for info in files.values() if "mtime" in info]
    return {
        "path": path,
        "spaces": len({name.rsplit("/", 2)[-2] for name in files if not name.endswith(CUTS_ENDING)}),
        "files": len(files),
        "bytes": sum(info["size"] for info in files.values()),
        "oldest_days": round(max(ages) / _DAY_SECONDS, 1) if ages else None,
    }


def evict(path: str, max_age_days: float) -> int:
    """Remove the files that are older; their number. A reader that misses one embeds again."""
    filesystem, _ = fsspec.core.url_to_fs(path)
    limit = time.time() - max_age_days * _DAY_SECONDS
    old = [name for name, info in _all_files(path).items() if info.get("mtime", limit) < limit]
    for name in old:
        try:
            filesystem.rm_file(name)
        except FileNotFoundError:
            pass  # somebody else removed it
        except OSError as error:
            raise _refused(name, "removed", error) from error
    return len(old)


def _all_files(path: str) -> dict[str, dict[str, Any]]:
    filesystem, root = fsspec.core.url_to_fs(path)
    if not filesystem.exists(root):
        return {}
    files = filesystem.find(root, detail=True)
    for info in files.values():
        if (changed := changed_at(info)) is not None:
            info["mtime"] = changed
    return {name: info for name, info in files.items() if name.endswith((".parquet", CUTS_ENDING, PART))}


def _refused(path: str, action: str, error: OSError) -> StoreError:
    return StoreError(
        f"cache.path: {path} cannot be {action}: {error.strerror or error}. Make room there or let this user write "
        "there, or set another place, or null for none; then run again: what is in the store stays"
    )
