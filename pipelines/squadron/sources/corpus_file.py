"""Corpus file: one file of a corpus, and what a reader of its format needs to know."""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from urllib.parse import unquote

from squadron.settings.schema import ColumnSettings, SourceSettings
from squadron.sources.columns import FileColumns

_FOLDER_VALUE = re.compile(r"(?:^|/)([^/=]+)=([^/]*)(?=/)")
_NULL = "__HIVE_DEFAULT_PARTITION__"


class BrokenFileError(Exception):
    """A file is not of the format that its name says, or must not be read."""


@dataclass(frozen=True)
class CorpusFile:
    """What is known of a file before it is read."""

    shown_path: str
    """Its path or address as messages show it."""
    source: SourceSettings
    file_columns: FileColumns
    folder_values: Mapping[str, str | None] = field(default_factory=dict)
    """What its folders say, as in `lang=de/part-0.parquet`."""

    @property
    def columns(self) -> ColumnSettings:
        """Which columns hold what."""
        return self.source.columns

    def check(self, names: Iterable[str]) -> None:
        """Take notice of the file's columns; raises SourceError where they are not as the settings want them."""
        own = list(names)
        self.file_columns.check([*own, *(name for name in self.folder_values if name not in own)], self.shown_path)


def folder_values(path: str) -> dict[str, str | None]:
    """The values that the folders of a path name, as Hive, Spark, DuckDB and pyarrow write them."""
    pairs = {unquote(name): unquote(value) for name, value in _FOLDER_VALUE.findall(path)}
    return {name: None if value == _NULL else value for name, value in pairs.items()}
