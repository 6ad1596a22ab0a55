"""Columns: which ones of a corpus the settings name, and which of its files have them."""

import difflib
import logging
from collections.abc import Iterable

from squadron.errors import SourceError
from squadron.settings.schema import ColumnSettings

log = logging.getLogger(__name__)

RESERVED = ("document_id", "title", "text", "question_id", "question")
REQUIRED = ("document_id", "text")
"""A file that lacks these, where they are named, has no document."""
SHOWN_NAMES, SHOWN_CHARACTERS = 10, 40
MOST_COMPARED = 1000


def source_columns(columns: ColumnSettings) -> dict[str, str]:
    """Role, or name of a metadata column -> the column of the corpus, for all that the settings name."""
    roles = {role: getattr(columns, role) for role in RESERVED} | columns.metadata_columns
    return {role: column for role, column in roles.items() if column}


def wanted_columns(columns: ColumnSettings) -> list[str]:
    """The corpus's columns that the settings name, each once."""
    return list(dict.fromkeys(source_columns(columns).values()))


def setting_of(column: str, columns: ColumnSettings) -> str:
    """The setting that names a column."""
    role = next((role for role in RESERVED if getattr(columns, role) == column), "metadata")
    return f"source.columns.{role}"


def shown(text: str, characters: int = SHOWN_CHARACTERS) -> str:
    """A name that somebody else chose, for a message: cut, and on one line."""
    cut = text if len(text) <= characters else text[: characters - 1] + "…"
    return "".join(c if c.isprintable() else c.encode("unicode_escape", "replace").decode() for c in cut)


class FileColumns:
    """Which of the wanted columns each file of a corpus has; where a file lacks an optional one, it is null."""

    def __init__(self, columns: ColumnSettings, files: int = 1) -> None:
        self._columns = columns
        self._files = files
        self._checked = 0
        self._lacking: dict[str, list[str]] = {}
        self._roles = source_columns(columns)
        self._messages: dict[str, str] = {}

    def check(self, column_names: Iterable[str], path: str) -> None:
        """Take notice of the columns of a file.

        Raises SourceError, naming the columns found and the setting, when a required column is absent, or an optional
        one that the settings name and no other file can have; and when a column is there twice.
        """
        names = list(column_names)
        self._checked += 1
        for role, column in self._roles.items():
            if names.count(column) > 1:
                setting = setting_of(column, self._columns)
                raise SourceError(f"{path} has {names.count(column)} columns named {column!r} ({setting}): rename one")
            if column in names:
                continue
            if role in REQUIRED or (self._files == 1 and not self._may_be_absent(role)):
                raise SourceError(self._absent(column, names, path))
            self._lacking.setdefault(role, []).append(path)
            self._messages.setdefault(role, self._absent(column, names, path))

    def require(self) -> None:
        """Raise SourceError when no file has an optional column that the settings name."""
        for role, paths in self._lacking.items():
            if len(paths) == self._checked and not self._may_be_absent(role):
                others = f" Nor has any other of the {len(paths)} files" if len(paths) > 1 else ""
                raise SourceError(f"{self._messages[role]}.{others}" if others else self._messages[role])

    def report(self) -> None:
        """Log which columns some files lack; nobody needs to hear of titles and questions that none of them has."""
        for role, paths in self._lacking.items():
            if len(paths) < self._checked or not self._may_be_absent(role):
                log.warning(
                    "column %r (%s) is absent from %d of %d files, and null there: %s%s",
                    *(self._roles[role], setting_of(self._roles[role], self._columns), len(paths), self._checked),
                    *(", ".join(paths[:3]), ", ..." if len(paths) > 3 else ""),
                )

    def _may_be_absent(self, role: str) -> bool:
        if role in self._columns.metadata_columns or role in REQUIRED:
            return False
        return bool(getattr(self._columns, role) == ColumnSettings.model_fields[role].default)

    def _absent(self, column: str, names: list[str], path: str) -> str:
        nearest = difflib.get_close_matches(column, [name[:200] for name in names[:MOST_COMPARED]], n=1)
        hint = f", did you mean {shown(nearest[0])!r}?" if nearest else "."
        listed = ", ".join(map(shown, names[:SHOWN_NAMES])) or "none"
        more = f" and {len(names) - SHOWN_NAMES} more" if len(names) > SHOWN_NAMES else ""
        return (
            f"{path} has no column {column!r}{hint} Its columns are: {listed}{more}. "
            f"Say with {setting_of(column, self._columns)} which one to read"
        )
