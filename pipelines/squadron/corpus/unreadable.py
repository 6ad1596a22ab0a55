"""Unread: what of the corpus could not be read in a pass over it, and which documents that may be.

A document that is in the store and not in the corpus has left the corpus, and its rows are deleted. But one that
could not be read has not left. Where its id is known, its rows stay; where it is not known, any document that is
missing may be it, and all of them stay, until the corpus can be read to its end.
"""

from collections.abc import Iterator

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from squadron.dataflow.digests import DIGEST_BYTES, hashed, joined_values
from squadron.dataflow.driver import Graph
from squadron.settings.registry import load
from squadron.settings.schema import Settings
from squadron.sources.rows import Unreadable, has_text

EXAMPLES = 3


class Unread:
    """Counts of what could not be read, the first of it, and the documents that it may be."""

    def __init__(self) -> None:
        self.items = 0
        """Rows and files."""
        self.rows = 0
        """Rows that it may be, those of whole files aside."""
        self.files = 0
        """Files, as a whole or from some place on."""
        self.of_files = 0
        """Files of the corpus; 0 as long as all of them could be read."""
        self.examples: list[Unreadable] = []
        self._anonymous_rows = 0
        self._anonymous_files = False
        self._identities: list[np.ndarray] = []

    def __bool__(self) -> bool:
        return bool(self._anonymous_rows) or self._anonymous_files or bool(self._identities)

    def add(self, item: Unreadable) -> None:
        """Take notice of a row or a file."""
        self.items += 1
        self.rows += 0 if item.files else item.rows
        self.files += bool(item.files)
        self.of_files = item.files or self.of_files
        if len(self.examples) < EXAMPLES:
            self.examples.append(item)
        if item.document_id is not None:
            self.add_documents(pa.array([item.document_id], pa.string()))
        elif item.files:
            self._anonymous_files = True
        else:
            self._anonymous_rows += item.rows

    def add_documents(self, ids: pa.Array) -> None:
        """Take notice of documents that are in the corpus, but without a text; some may be without an id, too."""
        has_id = has_text(ids)
        self._anonymous_rows += len(ids) - (pc.sum(has_id).as_py() or 0)
        if pc.any(has_id).as_py():
            self._identities.append(identities_of(ids.filter(has_id)))

    def may_be(self, identities: np.ndarray) -> np.ndarray:
        """`bool`: which of the documents may be among what could not be read."""
        if self._anonymous_rows or self._anonymous_files:
            return np.ones(len(identities), bool)
        return self.is_known_to_be(identities)

    def is_known_to_be(self, identities: np.ndarray) -> np.ndarray:
        """`bool`: which of the documents are, by their ids, among what could not be read."""
        return np.isin(identities, np.concatenate([np.empty(0, np.uint64), *self._identities]))

    def most_others(self, documents: int) -> int:
        """How many of `documents` stored ones may, at the most, be rows or files that could not be read and have no id.

        Of files, which are alike as far as anybody knows, each holds the same share of them.
        """
        in_files = -(-documents * self.files // self.of_files) if self._anonymous_files else 0
        return self._anonymous_rows + in_files

    def shown(self) -> str:
        """The first of it, for a message."""
        return "; ".join(map(str, self.examples)) + ("; ..." if self.items > len(self.examples) else "")

    def shares(self, rows: int, blank: int) -> Iterator[tuple[float, str]]:
        """How much of the corpus cannot be embedded, and in words: of its rows, and of its files.

        `rows` have a text, `blank` rows have none. Nobody knows how many rows a file has that cannot be read: each of
        the files stands for the same share of the corpus.
        """
        if lost := self.rows + blank:
            words = f"{blank} rows have no text beside {rows} that have one"
            if self.rows:
                words = f"{lost} rows cannot be read, or have no text, beside {rows} that can and do"
            yield lost / (lost + rows), words
        if self.files:
            yield self.files / self.of_files, f"{self.files} of {self.of_files} files cannot be read"


def identities_of(ids: pa.Array) -> np.ndarray:
    """`uint64`: of documents with these ids, the half of a digest that stands for the id (`Digests.identities`)."""
    halves = hashed(joined_values([ids]), DIGEST_BYTES // 2)
    return np.array([int.from_bytes(half, "big") for half in halves], np.uint64)


def versions_of(settings: Settings, graph: Graph, suspects: np.ndarray) -> list[Unreadable]:
    """Those of the suspected documents (`identities_of`) of which the corpus has several versions; reads it all."""
    source, versions, beginnings = settings.source, dict[str, set[bytes]](), dict[str, str]()
    for rows in load("sources", source.name).read_rows(source):
        if isinstance(rows, Unreadable):
            continue
        values = graph.values(["documents", "document_digests"], rows=rows)
        is_suspect = np.isin(values["document_digests"].identities(), suspects)
        twice = values["documents"].filter(pa.array(is_suspect))
        for document in twice.select(["document_id", "digest", "text"]).to_pylist():
            versions.setdefault(document["document_id"], set()).add(document["digest"])
            beginnings[document["document_id"]] = document["text"][:60]
    location, reason = "document {id!r}", "stands for {n} different texts, titles or metadata: ids must be unique"
    if not source.columns.document_id:
        location = "the document that begins {text!r}"
        reason = "different metadata in its rows: take the columns that differ out of source.columns.metadata"
    return [
        Unreadable(location.format(id=name, text=beginnings[name]), reason.format(n=len(digests)), name, len(digests))
        for name, digests in sorted(versions.items())
        if len(digests) > 1
    ]
