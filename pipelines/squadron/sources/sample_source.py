"""The bundled sample: a small SQuAD-shaped corpus, for a first look and for tests."""

from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa

from squadron.errors import SourceError
from squadron.settings.home import PACKAGE_DATA
from squadron.settings.schema import ColumnSettings, SourceSettings
from squadron.sources.columns import FileColumns
from squadron.sources.corpus_file import CorpusFile
from squadron.sources.files_source import read_file
from squadron.sources.rows import Unreadable


def read_rows(source: SourceSettings) -> Iterator[pa.RecordBatch | Unreadable]:
    """The sample as rows. Settings about paths and columns do not apply, but metadata that it lacks is refused."""
    if source.revision:
        raise SourceError(f"source.revision is {source.revision!r}, and the sample has no revisions: unset it")
    columns = ColumnSettings(metadata=source.columns.metadata)
    path = str(PACKAGE_DATA / "sample.json")
    corpus_file = CorpusFile(path, source.model_copy(update={"columns": columns}), FileColumns(columns))
    return read_file(path, corpus_file, lambda path: Path(path).open("rb"))
