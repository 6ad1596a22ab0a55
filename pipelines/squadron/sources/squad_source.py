"""SQuAD from the Hugging Face Hub, or any data set in its shape, by the `datasets` library."""

import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa

from squadron.errors import SourceError, UnreachableSourceError
from squadron.process.hub import offline_while_away
from squadron.settings.schema import SourceSettings
from squadron.sources.answered import ANSWERS, IS_IMPOSSIBLE, without_answer
from squadron.sources.columns import FileColumns, wanted_columns
from squadron.sources.hub_revision import HUB_URI, cached_dataset, commit_of, is_commit, name_on_hub
from squadron.sources.local_files import refuse_outsiders
from squadron.sources.parquet_format import column_names, column_of
from squadron.sources.rows import BATCH_ROWS, Piece, Unreadable, readable_rows


def pinned(source: SourceSettings) -> SourceSettings:
    """The same source, its revision being a commit; as it is, where it is a folder, or nobody knows the commit.

    Raises SourceError when the hub does not have the revision, or cannot be asked and the local cache does not know.
    """
    if _is_folder(source.path):
        if source.revision:
            raise SourceError(
                f"source.revision is {source.revision!r}, and source.path is a folder, which has no revisions: "
                "unset one of them"
            )
        return source
    if is_commit(source.revision):
        return source
    with offline_while_away():
        return source.model_copy(update={"revision": commit_of(name_on_hub(source.path), source.revision)})


def read_rows(source: SourceSettings) -> Iterator[pa.RecordBatch | Unreadable]:
    """The split as rows, in batches of at most 1,000, and what of them cannot be read.

    Raises SourceError when the hub cannot be reached and no cached copy of this revision exists, or when the data set,
    the revision, the configuration or the split does not exist. It never falls back to another corpus.
    """
    is_folder = _is_folder(source.path)
    name = str(source.path) if is_folder else name_on_hub(source.path)
    import datasets  # 2 s: not before it is needed

    datasets.disable_progress_bars()
    logging.getLogger("datasets").setLevel(logging.ERROR)
    source = pinned(source)
    try:
        yield from _rows(_of_folder(source, name) if is_folder else _of_hub(source, name), name, source)
    except ConnectionError as error:
        revision = f" at revision {source.revision}" if source.revision else ""
        raise UnreachableSourceError(
            f"the Hugging Face Hub cannot be reached and {name!r}{revision} is not in the local cache: "
            "go online, or set source.path to a local copy, or use source.name=files or sample"
        ) from error
    except (OSError, ValueError, RuntimeError, datasets.exceptions.DatasetsError) as error:
        reason = str(error.__cause__ or error)[:500]
        hint = ". Say with source.config which one" if "Config name is missing" in reason else ""
        raise SourceError(f"data set {name!r}, split {source.split!r} cannot be loaded: {reason}{hint}") from error


def _of_folder(source: SourceSettings, name: str) -> Any:
    """The split of a copy in a folder."""
    import datasets

    refuse_outsiders(name)
    # The library's cache takes a folder for unchanged when the folder's name and README are: go past it.
    return datasets.load_dataset(name, source.config, split=source.split, streaming=True)


def _of_hub(source: SourceSettings, name: str) -> Any:
    """The split of the hub's data set; of this commit and no other. Raises ConnectionError when it cannot be had."""
    import datasets
    from huggingface_hub import constants

    with offline_while_away():
        if not (constants.is_offline_mode() and source.revision):
            uri = f"{HUB_URI}{name}"  # without its scheme, a name may mean a folder below this process's own
            builder = datasets.load_dataset_builder(uri, source.config, revision=source.revision)
            if source.revision is None or builder.hash == source.revision:
                builder.download_and_prepare()
                return builder.as_dataset(split=source.split)
        # Where the library does not reach the hub, it takes what is newest in its cache.
        dataset = cached_dataset(name, str(source.revision), source.config, source.split)
    if dataset is None:
        raise ConnectionError
    return dataset


def _rows(dataset: Any, name: str, source: SourceSettings) -> Iterator[pa.RecordBatch | Unreadable]:
    row, file_columns = 1, FileColumns(source.columns)
    for table in dataset.with_format("arrow").iter(batch_size=BATCH_ROWS):
        names = column_names(table.schema, wanted_columns(source.columns))
        if row == 1:
            file_columns.check(names, name)
        wanted = [column for column in wanted_columns(source.columns) if column in names]
        extra = [column for column in (ANSWERS, IS_IMPOSSIBLE) if column in names and column not in wanted]
        chosen = pa.table({column: column_of(table, column) for column in [*wanted, *extra]})
        numbers = range(row, row + table.num_rows)
        yield from readable_rows(Piece(chosen, name, "row", numbers, {}, True, without_answer(chosen)), source)
        row += table.num_rows


def _is_folder(path: str | None) -> bool:
    if not path or path.startswith(HUB_URI):
        return False
    if Path(path).is_dir():
        return True
    kind = "a file" if Path(path).is_file() else "not there"
    raise SourceError(
        f"source.path {path!r} is {kind}: wanted a folder with a copy of the data set, or {HUB_URI}ORG/NAME "
        "for another one of the hub; single files are read with source.name=files"
    )
