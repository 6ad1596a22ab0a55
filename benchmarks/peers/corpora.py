"""Corpora: the same documents for every tool, as JSON lines, and what a night changes in them.

A document has a document_id that stays, a title, a text, and an edition, which is metadata.
"""

import json
from collections.abc import Callable
from pathlib import Path

import pyarrow.parquet as pq

Document = dict[str, str]


def squad(parquet: Path, limit: int) -> list[Document]:
    """The first distinct contexts of a SQuAD parquet file."""
    columns = pq.read_table(parquet, columns=["title", "context"]).to_pydict()
    titles = dict(reversed(list(zip(columns["context"], columns["title"], strict=True))))
    texts = list(dict.fromkeys(columns["context"]))[:limit]
    return [
        {"document_id": f"squad-{n:05d}", "title": titles[text], "text": text, "edition": "first"}
        for n, text in enumerate(texts)
    ]


def after_a_night(documents: list[Document]) -> list[Document]:
    """1 % of the documents differs: half of these are edited, a quarter is gone, a quarter is new."""
    quarter = max(1, len(documents) // 400)
    edited = edit(documents, spread(len(documents), 2 * quarter, first=10))
    gone = spread(len(documents), quarter, first=20)
    kept = [document for n, document in enumerate(edited) if n not in gone]
    added = [
        {**documents[n], "document_id": f"added-{n:05d}", "text": f"An addition. {documents[n]['text']}"}
        for n in sorted(spread(len(documents), quarter, first=30))
    ]
    return kept + added


def edit(documents: list[Document], numbers: set[int]) -> list[Document]:
    """The documents, those of these numbers with another text."""
    return _changed(documents, lambda n, row: {"text": f"{row['text']} (Revised.)"} if n in numbers else {})


def relabel(documents: list[Document]) -> list[Document]:
    """The documents, all of another edition: their texts are as before."""
    return _changed(documents, lambda _, __: {"edition": "second"})


def spread(total: int, count: int, first: int) -> set[int]:
    """So many numbers below the total, evenly spread."""
    return {(first + n * (total // count)) % total for n in range(count)}


def write(documents: list[Document], path: Path) -> Path:
    """The documents, one a line."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(document) + "\n" for document in documents), encoding="utf-8")
    return path


def _changed(documents: list[Document], change: Callable[[int, Document], Document]) -> list[Document]:
    return [document | change(number, document) for number, document in enumerate(documents)]
