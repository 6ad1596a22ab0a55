"""The bundled sample: a small SQuAD-shaped corpus, for a first look and for tests."""

from collections.abc import Iterator

import pyarrow as pa

from pipelines.settings import ColumnSettings, SourceSettings, home
from pipelines.sources.files_source import read_file
from pipelines.sources.rows import Unreadable


def read_rows(source: SourceSettings) -> Iterator[pa.RecordBatch | Unreadable]:
    """The sample as rows. Settings about paths and columns do not apply, but metadata that it lacks is refused."""
    columns = ColumnSettings(metadata=source.columns.metadata)
    return read_file(str(home() / "data" / "sample.json"), columns)
