"""Probes: questions made of the corpus itself, for a corpus that comes without any.

A passage's own sentence must find its document. That is easier than a reader's question, and says so in reports;
but an index that lost rows, or whose vectors are of another model, fails it.
"""

import re

import pyarrow as pa

from squadron.corpus.questions import QUESTION_SCHEMA
from squadron.corpus.samples import BottomSample
from squadron.dataflow.digests import Digests

MAX_PROBES, MAX_CHARACTERS = 200, 300
_DOCUMENT_SCHEMA = pa.schema([("document_id", pa.string()), ("text", pa.string())])
_SENTENCE = re.compile(r"(?<=[.!?])\s+|(?<=[\u3002\uff01\uff1f])|\n+")


class ProbeSample:
    """A fixed sample of documents, those with the smallest digests, and of each a sentence."""

    def __init__(self, size: int) -> None:
        self._sample = BottomSample(min(size, MAX_PROBES), _DOCUMENT_SCHEMA, ("document_id", "text"))

    def add(self, documents: pa.Table) -> None:
        """Take the documents of a batch."""
        self._sample.add(Digests.of_column(documents["digest"]).high, documents)

    def table(self) -> pa.Table:
        """The probes, as `QUESTION_SCHEMA` says."""
        probes = [
            {
                "question_id": f"probe of {document['document_id']}",
                "question": sentence_of(document["text"]),
                "document_id": document["document_id"],
            }
            for document in self._sample.table().to_pylist()
        ]
        return pa.Table.from_pylist(probes, QUESTION_SCHEMA)


def sentence_of(text: str) -> str:
    """The longest of the text's sentences, cut after 300 characters; the text itself if it has none."""
    sentences = [sentence.strip() for sentence in _SENTENCE.split(text)]
    return max(sentences, key=len, default=text)[:MAX_CHARACTERS]
