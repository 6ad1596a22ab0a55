"""Documents: the distinct texts of a batch of rows, and the questions asked about them."""

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from squadron.dataflow.digests import DIGEST_BYTES, Digests, concatenated, hashed, joined_values
from squadron.sources.rows import has_text

_QUESTION = ["question_id", "question"]


def identified_rows(rows: pa.RecordBatch) -> pa.Table:
    """The rows that have a text, titles filled, ids derived from title and text where there is none.

    Before them stands a column `digest`: that of the row's document, see `documents`.
    """
    table = _chosen(pa.Table.from_batches([rows]), has_text(rows["text"]))
    table = table.set_column(1, "title", pc.fill_null(table["title"], ""))
    starts = _run_starts(table.drop_columns(_QUESTION))
    ids, digests = _identified(_chosen(table.drop_columns(_QUESTION), pa.array(starts)))
    if len(ids) < table.num_rows:
        run = pa.array(np.cumsum(starts) - 1)
        ids, digests = ids.take(run), digests.take(run)
    return table.set_column(0, "document_id", ids).add_column(0, "digest", digests)


def blank_rows(rows: pa.RecordBatch) -> int:
    """The number of rows without a text: there is nothing to embed in them."""
    return rows.num_rows - (pc.sum(has_text(rows["text"])).as_py() or 0)


def documents(identified_rows: pa.Table) -> pa.Table:
    """The distinct documents of the batch, in their order.

    Columns: digest (12 bytes), document_id, title, text, then the metadata columns. A digest is 6 bytes of
    the document's id, then 6 of its title, text and metadata: equal digests are equal documents; digests
    that share the first half are versions of one document.
    """
    table = identified_rows.drop_columns(_QUESTION)
    if len(np.unique(Digests.of_column(table["digest"]).high)) == table.num_rows:
        return table
    first: dict[bytes, int] = {}
    for position, digest in enumerate(table["digest"].to_pylist()):
        first.setdefault(digest, position)
    return table.take(pa.array(first.values(), pa.int64()))


def questions(identified_rows: pa.Table) -> pa.Table:
    """The questions of the batch: question_id, question, and the document_id of the document that answers."""
    asked = identified_rows.select([*_QUESTION, "document_id"])
    asked = _chosen(asked, has_text(asked["question"]))
    return asked.set_column(0, "question_id", pc.coalesce(asked["question_id"], asked["question"]))


def _identified(table: pa.Table) -> tuple[pa.Array, pa.Array]:
    """The ids of the documents in the rows, and their digests."""
    ids, *content = _columns(table)
    joined = joined_values(content[:2])
    if ids.null_count:
        derived = [digest.hex() for digest in hashed(joined, DIGEST_BYTES)]
        ids = pc.coalesce(ids, pa.array(derived, pa.string()))
    if content[2:]:
        names = pa.scalar(repr(table.column_names[3:]))  # the same values under other names are other metadata
        joined = concatenated([joined, names, joined_values(content[2:])])
    half = DIGEST_BYTES // 2
    halves = zip(hashed(joined_values([ids]), half), hashed(joined, half), strict=True)
    return ids, pa.array([identity + version for identity, version in halves], pa.binary(DIGEST_BYTES))


def _run_starts(table: pa.Table) -> np.ndarray:
    """`bool [rows]`: which rows differ from the row before; a source repeats a document for each of its questions."""
    starts = np.zeros(table.num_rows, bool)
    starts[:1] = True
    for column in _columns(table):
        values = pc.fill_null(column, "") if column.null_count else column
        starts[1:] |= pc.not_equal(values[1:], values[:-1]).to_numpy(zero_copy_only=False)
    return starts


def _chosen(table: pa.Table, mask: pa.Array | pa.ChunkedArray) -> pa.Table:
    """The rows of the mask; the table itself, uncopied, when they are all."""
    return table if pc.all(mask, min_count=0).as_py() else table.filter(mask)


def _columns(table: pa.Table) -> list[pa.Array]:
    return [column.chunk(0) if column.num_chunks == 1 else column.combine_chunks() for column in table.columns]
