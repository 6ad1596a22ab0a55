"""Questions: those of the corpus that a generation is asked, the same ones from run to run."""

from hashlib import blake2b

import numpy as np
import pyarrow as pa

from squadron.dataflow.digests import hashed

_SAMPLE = pa.schema(
    [(name, pa.string()) for name in ("question_id", "question", "document_id")] + [("key", pa.uint64())]
)


class QuestionSample:
    """A fixed sample of the corpus's questions: those whose ids have the smallest digests (bottom-k sampling).

    It does not depend on the order of the corpus, and stays nearly the same when the corpus changes a little,
    so that figures of two runs can be compared.
    """

    def __init__(self, size: int) -> None:
        self._size = size
        self._rows = _SAMPLE.empty_table()
        self._farthest = np.iinfo(np.uint64).max

    def add(self, questions: pa.Table) -> None:
        """Take the questions of a batch. Of questions with the same id one is kept."""
        keys = np.frombuffer(b"".join(hashed(questions["question_id"].combine_chunks(), 8)), ">u8").astype(np.uint64)
        near = keys <= self._farthest
        if not self._size or not near.any():
            return
        rows = questions.filter(pa.array(near)).append_column("key", pa.array(keys[near]))
        rows = pa.concat_tables([self._rows, rows])
        rows = rows.sort_by([(name, "ascending") for name in ("key", "document_id", "question")])
        _, first = np.unique(rows["key"].to_numpy(), return_index=True)
        self._rows = rows.take(first[: self._size])
        if self._rows.num_rows == self._size:
            self._farthest = self._rows["key"][-1].as_py()

    def table(self) -> pa.Table:
        """The sample: question_id, question, document_id."""
        return self._rows.drop_columns(["key"]).combine_chunks()


def questions_digest(questions: pa.Table, prompt: str = "") -> str:
    """Equal digests are equal questions, asked with the same prompt, relevant documents included."""
    rows = list(zip(*(column.to_pylist() for column in questions.columns), strict=True))
    asked = (prompt, rows) if prompt else rows
    return blake2b(repr(asked).encode(), digest_size=8).hexdigest()
