"""SQuAD from the Hugging Face Hub, or any data set in its shape, by the `datasets` library."""

import logging
from collections.abc import Iterator
from contextlib import nullcontext
from pathlib import Path

import pyarrow as pa

from squadron.errors import SourceError, UnreachableSourceError
from squadron.process.hub import offline_while_away
from squadron.settings.schema import SourceSettings
from squadron.sources.rows import BATCH_ROWS, Piece, Unreadable, check_columns, readable_rows

HUB_ID = "rajpurkar/squad"
HUB_URI = "hf://datasets/"


def read_rows(source: SourceSettings) -> Iterator[pa.RecordBatch | Unreadable]:
    """The split as rows, in batches of at most 1,000, and what of them cannot be read.

    Raises SourceError when the hub cannot be reached and no cached copy exists, or when the data set or the
    split does not exist. It never falls back to another corpus.
    """
    name, in_folder = _name(source.path)
    import datasets  # 2 s: not before it is needed

    datasets.disable_progress_bars()
    logging.getLogger("datasets").setLevel(logging.ERROR)
    row = 1
    try:
        with nullcontext() if in_folder else offline_while_away():
            # The library's cache takes a folder for unchanged when the folder's name and README are: go past it.
            dataset = datasets.load_dataset(name, split=source.split, revision=source.revision, streaming=in_folder)
        for table in dataset.with_format("arrow").iter(batch_size=BATCH_ROWS):
            check_columns(table.column_names, source.columns, name)
            numbers = range(row, row + table.num_rows)
            yield from readable_rows(Piece(table, name, "row", numbers), source.columns)
            row += table.num_rows
    except ConnectionError as error:
        raise UnreachableSourceError(
            f"the Hugging Face Hub cannot be reached and {name!r} is not in the local cache: "
            "go online, or set source.path to a local copy, or use source.name=files or sample"
        ) from error
    except (OSError, ValueError, datasets.exceptions.DatasetsError) as error:
        reason = str(error.__cause__ or error)[:500]
        raise SourceError(f"data set {name!r}, split {source.split!r} cannot be loaded: {reason}") from error


def _name(path: str | None) -> tuple[str, bool]:
    """What `datasets` calls the data set, a folder or an id of the hub, and whether it is a folder."""
    if not path:
        return HUB_ID, False
    if path.startswith(HUB_URI):
        return path.removeprefix(HUB_URI).strip("/"), False
    if not Path(path).is_dir():
        kind = "a file" if Path(path).is_file() else "not there"
        raise SourceError(
            f"source.path {path!r} is {kind}: wanted a folder with a copy of the data set, or {HUB_URI}ORG/NAME "
            "for another one of the hub; single files are read with source.name=files"
        )
    return path, True
