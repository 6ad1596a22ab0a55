"""Reading: what a LanceDB folder really holds, whoever wrote it, against the corpus that it should hold.

Nothing that a tool says of itself is asked: the table's files are read by LanceDB alone.
"""

from collections import defaultdict
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import lancedb
import numpy as np
import pyarrow as pa

from benchmarks.peers.corpora import Document


@dataclass(frozen=True)
class Verdict:
    """How a store differs from a corpus. All zero but `rows`: it does not."""

    rows: int
    missing: int
    """Documents of the corpus of which a part, or all, is not there with its present text and a vector."""
    stale: int
    """Rows with a text that the corpus no longer has."""
    doubled: int
    """Rows that are there already."""
    vectorless: int
    """Rows without a vector, with one of zeros or of what is no number."""
    mislabelled: int
    """Rows whose edition is not the document's."""

    @property
    def faultless(self) -> bool:
        """Whether the store holds the corpus, and nothing else."""
        return not any(value for name, value in asdict(self).items() if name != "rows")

    def __str__(self) -> str:
        wrong = {name: value for name, value in asdict(self).items() if name != "rows" and value}
        return f"{self.rows} rows" + "".join(f", {value} {name}" for name, value in wrong.items())


def verdict(folder: Path, documents: list[Document]) -> Verdict:
    """The store in `folder` against the documents."""
    expected = {document["document_id"]: document for document in documents}
    texts, seen = defaultdict(list), set()
    stale = doubled = vectorless = mislabelled = rows = 0
    for rows, (document_id, text, edition, vector) in enumerate(stored(folder), 1):  # noqa: B007
        whole = expected.get(document_id, {}).get("text")
        stale += (gone := whole is None or text not in whole)
        doubled += (again := (document_id, text) in seen)
        vectorless += (bare := not np.isfinite(vector).all() or not np.any(vector))
        seen.add((document_id, text))
        if gone or again or bare:
            continue
        mislabelled += edition != expected[document_id]["edition"]
        texts[document_id].append(text)
    missing = sum(not _covers(texts[name], document["text"]) for name, document in expected.items())
    return Verdict(rows, missing, stale, doubled, vectorless, mislabelled)


def stored(folder: Path) -> list[tuple[str, str, str, np.ndarray]]:
    """Every row that readers would find: document id, text, edition, vector (empty where there is none)."""
    table = corpus_table(folder)
    if table is None:
        return []
    rows = table.to_arrow()
    ids, texts, editions = (_column(rows, name) for name in ("document_id", "text", "edition"))
    vectors = [np.asarray([] if vector is None else vector, np.float32) for vector in rows["vector"].to_pylist()]
    return list(zip(ids, texts, editions, vectors, strict=True))


def corpus_table(folder: Path) -> Any:
    """The table of the corpus: the live one where there is a pointer, else the one with vectors; None without one."""
    if not (folder / "lancedb").is_dir():
        return None
    database = lancedb.connect(folder / "lancedb")
    names = database.list_tables().tables
    if "_live" in names:
        pointers = database.open_table("_live").to_arrow()["generation"].to_pylist()
        return database.open_table(pointers[0]) if pointers and pointers[0] in names else None
    tables = [table for table in map(database.open_table, names) if _vectors(table)]
    return max(tables, key=lambda table: table.count_rows(), default=None)


def _vectors(table: Any) -> bool:
    kind = table.schema.field("vector").type if "vector" in table.schema.names else pa.null()
    return bool(pa.types.is_fixed_size_list(kind) or pa.types.is_list(kind))


def _column(rows: pa.Table, name: str) -> list[str]:
    """A column, or where there is none, what the column `metadata` has under that name."""
    if name in rows.column_names:
        return list(rows[name].to_pylist())
    return [metadata[name] for metadata in rows["metadata"].to_pylist()]


def _covers(texts: list[str], whole: str) -> bool:
    """Whether pieces of a document hold it from its first character to its last."""
    held = 0
    for start, length in sorted((whole.find(text), len(text)) for text in texts):
        if whole[held:start].strip():
            return False
        held = max(held, start + length)
    return not whole[held:].strip()
