"""Formats: what the files of a corpus may be; each is read in pieces of at most 1,000 rows.

Where a reader cannot read a row, it gives an `Unreadable` and goes on.
"""

from collections.abc import Callable, Iterator
from io import BufferedReader

from squadron.sources.corpus_file import CorpusFile
from squadron.sources.csv_format import read_csv
from squadron.sources.json_formats import read_json, read_json_lines
from squadron.sources.parquet_format import read_parquet
from squadron.sources.rows import Piece, Unreadable
from squadron.sources.unpacked import PACKED

Reader = Callable[[BufferedReader, CorpusFile], Iterator[Piece | Unreadable]]
READERS: dict[str, Reader] = {
    ".parquet": read_parquet,
    ".jsonl": read_json_lines,
    ".ndjson": read_json_lines,
    ".csv": read_csv,
    ".json": read_json,
}


def reader_of(path: str) -> Reader | None:
    """The reader for a file's name, packed or not; None when its ending is unknown."""
    name = path.lower()
    for packed in PACKED:
        name = name.removesuffix(packed)
    return next((reader for ending, reader in READERS.items() if name.endswith(ending)), None)


def endings() -> str:
    """The endings that names of files may have, for a message."""
    return f"{', '.join(READERS)}, or these and {', '.join(PACKED)}"
