"""Documents: the distinct texts of a batch of rows, and the questions asked about them."""

from collections.abc import Iterable
from hashlib import blake2b

import pyarrow as pa
import pyarrow.compute as pc

from pipelines.sources.rows import has_text

DIGEST_BYTES = 12


def identified_rows(rows: pa.RecordBatch) -> pa.Table:
    """The rows that have a text, titles filled, and ids derived from title and text where there is none."""
    table = pa.Table.from_batches([rows]).filter(has_text(rows["text"]))
    table = table.set_column(1, "title", pc.fill_null(table["title"], ""))
    if not table["document_id"].null_count:
        return table
    titled = zip(table["title"].to_pylist(), table["text"].to_pylist(), strict=True)
    derived = pa.array([_digest(row, DIGEST_BYTES).hex() for row in titled], pa.string())
    return table.set_column(0, "document_id", pc.coalesce(table["document_id"], derived))


def blank_rows(rows: pa.RecordBatch) -> int:
    """The number of rows without a text: there is nothing to embed in them."""
    return rows.num_rows - (pc.sum(has_text(rows["text"])).as_py() or 0)


def documents(identified_rows: pa.Table) -> pa.Table:
    """The distinct documents of the batch, in their order.

    Columns: digest (12 bytes), document_id, title, text, then the metadata columns. A digest is 6 bytes of
    the document's id, then 6 of its title, text and metadata: equal digests are equal documents; digests
    that share the first half are versions of one document.
    """
    table = identified_rows.drop_columns(["question_id", "question"])
    columns = [pc.fill_null(column, "").to_pylist() for column in table.columns]
    first: dict[bytes, int] = {}
    for position, (document_id, *content) in enumerate(zip(*columns, strict=True)):
        half = DIGEST_BYTES // 2
        first.setdefault(_digest([document_id], half) + _digest(content, half), position)
    digests = pa.array(first.keys(), pa.binary(DIGEST_BYTES))
    return table.take(pa.array(first.values(), pa.int64())).add_column(0, "digest", digests)


def questions(identified_rows: pa.Table) -> pa.Table:
    """The questions of the batch: question_id, question, and the document_id of the document that answers."""
    asked = identified_rows.filter(has_text(identified_rows["question"]))
    return pa.table(
        {
            "question_id": pc.coalesce(asked["question_id"], asked["question"]),
            "question": asked["question"],
            "document_id": asked["document_id"],
        }
    )


def _digest(values: Iterable[str], size: int) -> bytes:
    """Lengths stand before the values, so that no two rows look alike when they are joined."""
    joined = "".join(f"{len(value)}:{value}" for value in values)
    return blake2b(joined.encode("utf-8", "surrogatepass"), digest_size=size).digest()
