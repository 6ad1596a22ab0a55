"""Documents: distinct texts with stable digests, and the questions asked about them."""

import pyarrow as pa
from hypothesis import given
from hypothesis import strategies as st

from squadron.dataflow.documents import blank_rows, documents, identified_rows, questions
from squadron.settings.schema import ColumnSettings
from squadron.sources.rows import row_schema

TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=12)


def rows_of(*rows: dict, metadata: tuple[str, ...] = ()) -> pa.RecordBatch:
    return pa.RecordBatch.from_pylist(list(rows), row_schema(ColumnSettings(metadata=metadata)))


def documents_of(*rows: dict, metadata: tuple[str, ...] = ()) -> list[dict]:
    return documents(identified_rows(rows_of(*rows, metadata=metadata))).to_pylist()


def digest(metadata: tuple[str, ...] = (), **row: str | None) -> bytes:
    (document,) = documents_of({"text": "Tea is a drink."} | row, metadata=metadata)
    return document["digest"]


def test_a_row_for_each_question_makes_one_document():
    found = documents_of(
        {"title": "Tea", "text": "Tea is a drink.", "question_id": "q1", "question": "What is tea?"},
        {"title": "Tea", "text": "Tea is a drink.", "question_id": "q2", "question": "Is it a drink?"},
        {"title": "Ink", "text": "Ink is not.", "question_id": None, "question": None},
    )

    assert [(document["title"], document["text"]) for document in found] == [
        ("Tea", "Tea is a drink."),
        ("Ink", "Ink is not."),
    ]


def test_a_document_without_an_id_is_its_title_and_text():
    same = {"title": "Tea", "text": "Tea is a drink."}

    (first,) = documents_of(same)
    (again,) = documents_of({"title": "Ink", "text": "Ink."}, same)[1:]
    (other_title,) = documents_of(same | {"title": "Cha"})

    assert first["document_id"] == again["document_id"] != other_title["document_id"]
    assert len(first["document_id"]) == 24


def test_an_id_that_is_given_is_kept():
    (document,) = documents_of({"document_id": "tea-01", "text": "Tea is a drink."})

    assert document["document_id"] == "tea-01"


def test_a_digest_is_half_identity_and_half_content():
    before = digest(document_id="tea", title="Tea")

    assert len(before) == 12
    assert digest(document_id="tea", title="Tea") == before
    for changed in ({"title": "Cha"}, {"text": "Tea is hot."}):
        after = digest(**{"document_id": "tea", "title": "Tea"} | changed)
        assert after[:6] == before[:6]
        assert after[6:] != before[6:]
    assert digest(document_id="ink", title="Tea")[:6] != before[:6]


def test_changed_metadata_is_a_changed_document():
    first = digest(document_id="tea", author="A", metadata=("author",))

    assert first != digest(document_id="tea", author="B", metadata=("author",))
    assert first != digest(document_id="tea")


def test_digests_do_not_run_fields_together():
    assert digest(document_id="x", title="ab", text="c") != digest(document_id="x", title="a", text="bc")
    assert digest(document_id="x", title="1:a", text="b") != digest(document_id="x", title="", text="1:a1:b")


def test_the_digest_of_a_document_stays_what_it_is():
    """Another digest would make every stored passage foreign: all would be embedded again."""
    assert digest(document_id="tea", title="Tea").hex() == "13935f055ec94e40ec1c54c6"


def test_rows_without_a_text_are_no_documents_and_are_counted():
    blanks = [None, "", " \n\t", "\u00a0\u2003"]
    rows = rows_of({"text": "Tea is a drink."}, *({"text": blank, "title": "Tea", "question": "?"} for blank in blanks))

    assert blank_rows(rows) == 4
    assert documents(identified_rows(rows)).num_rows == 1
    assert questions(identified_rows(rows)).num_rows == 0


def test_a_batch_of_blank_rows_alone_is_empty():
    rows = rows_of({"text": ""})

    assert blank_rows(rows) == 1
    assert documents(identified_rows(rows)).num_rows == 0
    assert blank_rows(rows_of()) == 0


def test_questions_name_the_document_that_answers():
    rows = rows_of(
        {"text": "Tea is a drink.", "question_id": "q1", "question": "What is tea?"},
        {"text": "Tea is a drink.", "question_id": "q2", "question": " "},
        {"text": "Ink is not.", "question_id": None, "question": "What is not?"},
    )
    tea, ink = documents(identified_rows(rows))["document_id"].to_pylist()

    assert questions(identified_rows(rows)).to_pylist() == [
        {"question_id": "q1", "question": "What is tea?", "document_id": tea},
        {"question_id": "What is not?", "question": "What is not?", "document_id": ink},
    ]


def test_metadata_stays_with_its_document():
    found = documents_of(
        {"document_id": "1", "text": "Tea.", "author": "A"},
        {"document_id": "2", "text": "Ink.", "author": None},
        metadata=("author",),
    )

    assert [document["author"] for document in found] == ["A", None]


@given(st.lists(st.tuples(TEXT, TEXT, TEXT), max_size=20))
def test_documents_are_the_distinct_rows_in_their_order(rows):
    given_rows = [{"document_id": i, "title": title, "text": f".{text}"} for i, title, text in rows]

    found = documents_of(*given_rows)

    assert [(d["document_id"], d["title"], d["text"][1:]) for d in found] == list(dict.fromkeys(rows))
    assert len({d["digest"] for d in found}) == len(found)
