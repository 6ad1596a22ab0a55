"""Questions: those of the corpus that a generation is asked, the same ones from run to run."""

from hashlib import blake2b

import numpy as np
import pyarrow as pa

from squadron.corpus.samples import BottomSample
from squadron.dataflow.digests import hashed

QUESTION_SCHEMA = pa.schema([(name, pa.string()) for name in ("question_id", "question", "document_id")])


class QuestionSample:
    """A fixed sample of the corpus's questions: those whose ids have the smallest digests."""

    def __init__(self, size: int) -> None:
        self._sample = BottomSample(size, QUESTION_SCHEMA, ("document_id", "question"))

    def add(self, questions: pa.Table) -> None:
        """Take the questions of a batch. Of questions with the same id one is kept."""
        digests = b"".join(hashed(questions["question_id"].combine_chunks(), 8))
        self._sample.add(np.frombuffer(digests, ">u8").astype(np.uint64), questions)

    def table(self) -> pa.Table:
        """The sample, as `QUESTION_SCHEMA` says."""
        return self._sample.table()


def questions_digest(questions: pa.Table, prompt: str = "") -> str:
    """Equal digests are equal questions, asked with the same prompt, relevant documents included."""
    rows = list(zip(*(column.to_pylist() for column in questions.columns), strict=True))
    asked = (prompt, rows) if prompt else rows
    return blake2b(repr(asked).encode(), digest_size=8).hexdigest()
