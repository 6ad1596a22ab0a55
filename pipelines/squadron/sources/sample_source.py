"""The bundled sample: a small SQuAD-shaped corpus, for a first look and for tests."""

from collections.abc import Iterator

import pyarrow as pa

from squadron.settings.home import PACKAGE_DATA
from squadron.settings.schema import ColumnSettings, SourceSettings
from squadron.sources.files_source import read_file
from squadron.sources.rows import Unreadable


def read_rows(source: SourceSettings) -> Iterator[pa.RecordBatch | Unreadable]:
    """The sample as rows. Settings about paths and columns do not apply, but metadata that it lacks is refused."""
    columns = ColumnSettings(metadata=source.columns.metadata)
    return read_file(str(PACKAGE_DATA / "sample.json"), columns)
