"""Probes: questions made of the corpus itself, for a corpus that comes without any.

A passage's own sentence must find its document. That is easier than a reader's question, and says so in reports;
but an index that lost rows, or whose vectors are of another model, fails it.
"""

import re

import numpy as np
import pyarrow as pa

from squadron.dataflow.digests import Digests

MOST_PROBES, MOST_CHARACTERS = 200, 300
PROBE_SCHEMA = pa.schema([(name, pa.string()) for name in ("question_id", "question", "document_id")])
_SENTENCE = re.compile(r"(?<=[.!?])\s+|(?<=[\u3002\uff01\uff1f])|\n+")


class ProbeSample:
    """A fixed sample of documents, those with the smallest digests, and of each a sentence.

    It does not depend on the order of the corpus, and changes little when the corpus does (bottom-k sampling).
    """

    def __init__(self, size: int) -> None:
        self._size = min(size, MOST_PROBES)
        self._keys = np.empty(0, np.uint64)
        self._rows: list[tuple[str, str]] = []

    def add(self, documents: pa.Table) -> None:
        """Take the documents of a batch."""
        if not self._size or not documents.num_rows:
            return
        keys = Digests.of_column(documents["digest"]).high
        small = np.flatnonzero(keys < self._keys[-1]) if len(self._keys) == self._size else np.arange(len(keys))
        if not len(small):
            return
        small = small[np.argsort(keys[small], kind="stable")][: self._size]
        chosen = documents.select(["document_id", "text"]).take(pa.array(small)).to_pylist()
        merged = dict(zip(self._keys.tolist(), self._rows, strict=True))
        for key, row in zip(keys[small].tolist(), chosen, strict=True):
            merged.setdefault(key, (row["document_id"], row["text"]))
        kept = sorted(merged)[: self._size]
        self._keys, self._rows = np.array(kept, np.uint64), [merged[key] for key in kept]

    def table(self) -> pa.Table:
        """question_id, question, document_id, as the corpus's own questions would have them."""
        asked = [
            {"question_id": f"probe of {document_id}", "question": sentence_of(text), "document_id": document_id}
            for document_id, text in self._rows
        ]
        return pa.Table.from_pylist(asked, PROBE_SCHEMA)


def sentence_of(text: str) -> str:
    """The longest of the text's sentences, cut after 300 characters; the text itself if it has none."""
    sentences = [sentence.strip() for sentence in _SENTENCE.split(text)]
    return max(sentences, key=len, default=text)[:MOST_CHARACTERS]
