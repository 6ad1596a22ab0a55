"""SQuAD from the Hugging Face Hub, or any data set in its shape, by the `datasets` library."""

import logging
from collections.abc import Iterator

import pyarrow as pa

from pipelines.errors import SourceError
from pipelines.settings import SourceSettings
from pipelines.sources.rows import renamed_rows

HUB_ID = "rajpurkar/squad"
BATCH_ROWS = 1000


def read_rows(source: SourceSettings) -> Iterator[pa.RecordBatch]:
    """The split as rows, in batches of at most 1,000.

    Raises SourceError when the hub cannot be reached and no cached copy exists, or when the data set or the
    split does not exist. It never falls back to another corpus.
    """
    import datasets  # 2 s: not before it is needed

    datasets.disable_progress_bars()
    logging.getLogger("datasets").setLevel(logging.ERROR)
    name = source.path or HUB_ID
    try:
        dataset = datasets.load_dataset(name, split=source.split, revision=source.revision)
    except ConnectionError as error:
        raise SourceError(
            f"the Hugging Face Hub cannot be reached and {name!r} is not in the local cache: "
            "go online, or set source.path to a local copy, or use source.name=files or sample"
        ) from error
    except (OSError, ValueError) as error:
        raise SourceError(f"data set {name!r}, split {source.split!r}: {error}") from error
    for table in dataset.with_format("arrow").iter(batch_size=BATCH_ROWS):
        yield renamed_rows(table, source.columns, name)
