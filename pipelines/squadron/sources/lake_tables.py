"""Lake tables: folders of Delta Lake, Iceberg or Hudi, whose parquet files are not the table's rows.

Such a table keeps a log. Files that it removed stay in the folder, and with them rows that were deleted: a folder with
a log is refused, and the log is named.
"""

import re
from collections.abc import Iterable

from squadron.errors import SourceError

LOGS = {"_delta_log": "Delta Lake", ".hoodie": "Hudi"}
_ICEBERG_LOG = re.compile(r"(^|/)metadata/[^/]+\.metadata\.json(\.gz)?$")
_PARTITION = re.compile(r"^[^/=]+=[^/]*$|^data$")
"""Folders inside a table, of whose parent the table may be."""


def refuse_table(folder: str, names: Iterable[str]) -> None:
    """Raise SourceError when one of the names in a folder is that of a table's log."""
    for name in names:
        if name in LOGS:
            raise SourceError(_message(folder, LOGS[name], name))


def refuse_iceberg(folder: str, names: Iterable[str]) -> None:
    """Raise SourceError when the names in a folder, if it is called `metadata`, are those of an Iceberg table's log."""
    table, _, last = folder.rpartition("/")
    for name in names if last == "metadata" else ():
        if _ICEBERG_LOG.search(f"metadata/{name}"):
            raise SourceError(_message(table, "Iceberg", f"metadata/{name}"))


def refuse_tables_among(paths: Iterable[str]) -> None:
    """Raise SourceError when files lie in a table's log."""
    for path in paths:
        for log, kind in LOGS.items():
            folder, found, _ = f"/{path}".partition(f"/{log}/")
            if found:
                raise SourceError(_message(folder.removeprefix("/"), kind, log))
        if _ICEBERG_LOG.search(path):
            folder, _, name = path.rpartition("metadata/")
            raise SourceError(_message(folder.rstrip("/"), "Iceberg", f"metadata/{name}"))


def folders_above(folder: str) -> list[str]:
    """A folder, and those above it of which it may be a part: `table` and `table/lang=de` of the latter."""
    folders = [folder]
    while _PARTITION.match(folders[-1].rstrip("/").rpartition("/")[2]):
        folders.append(folders[-1].rstrip("/").rpartition("/")[0] or "/")
    return folders


def _message(folder: str, kind: str, log: str) -> str:
    return (
        f"{folder} is a table of {kind}, with a log in {log}: its files hold rows that the table has no more, and "
        "Squadron does not read the log. Write the table's rows into a folder of their own, and name that as "
        "source.path"
    )
