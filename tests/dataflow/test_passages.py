"""Passages: nothing is lost, nothing is longer than the model reads."""

from itertools import pairwise

import pyarrow as pa
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from squadron.dataflow import passages as node
from squadron.dataflow.cuts import cuts
from squadron.dataflow.documents import documents, identified_rows
from squadron.dataflow.passages import embedding_texts, passage_tokens, passages
from squadron.dataflow.vector_space import fingerprint, vector_space
from squadron.embeddings import hashing_embeddings, sentence_transformers_embeddings
from squadron.errors import SettingsError, SourceError
from squadron.settings.embedding_sections import SentenceTransformersSettings
from squadron.settings.schema import ColumnSettings
from squadron.sources.rows import row_schema

TITLED, PLAIN = node.text_template__title_text_v1(), node.text_template__plain_v1()
MINILM = sentence_transformers_embeddings.tokenizer(
    sentence_transformers_embeddings.model_folder(SentenceTransformersSettings())
)
WORDS = hashing_embeddings.tokenizer()

SENTENCES = st.lists(
    st.sampled_from(
        [
            *(
                "Tea is a drink. ",
                "Ink is not!\n",
                "Warum?\n\n",
                "مرحبا بالعالم، كيف حالك؟ ",
                "שלום עולם. ",
                "お茶は飲み物です。",
            ),
            *(
                "👩‍👩‍👧‍👦🏳️‍🌈 ",
                "{title} {0} {} %s ",
                "nul\x00byte ",
                "e\u0301 ",
                "\u200b",
                "\t \r\n",
                "<s>[CLS]</s> ",
                "1,024.5 ",
            ),
        ]
    ),
    min_size=1,
    max_size=60,
).map("".join)
GIANT_WORDS = st.tuples(st.sampled_from("aß中🦜"), st.integers(1, 3000)).map(lambda word: word[0] * word[1])
ANYTHING = st.text(st.characters(exclude_categories=["Cs"]), max_size=200)
TEXTS = st.lists(st.one_of(SENTENCES, GIANT_WORDS, ANYTHING), min_size=1, max_size=4).map(" ".join)
TITLES = st.one_of(st.just(""), ANYTHING, SENTENCES)


def cut(title: str, text: str, limit: int, overlap: int = 0, tokenizer=MINILM, template: str = TITLED) -> list[dict]:
    rows = pa.RecordBatch.from_pylist(
        [{"document_id": "doc", "title": title, "text": text}], row_schema(ColumnSettings())
    )
    found = documents(identified_rows(rows))
    return passages(found, cuts(found, tokenizer, template, limit, overlap), template).to_pylist()


def compact(text: str) -> str:
    return "".join(text.split())


def covers(pieces: list[str], whole: str) -> bool:
    """Whether the pieces, which may overlap, can be laid end to end over the whole, leaving no gap."""
    ends = {0}
    for piece in pieces:
        begins = (b for b in range(max(ends) + 1) if whole.startswith(piece, b))
        ends |= {b + len(piece) for b in begins}
    return len(whole) in ends


@settings(max_examples=150)
@given(title=TITLES, text=TEXTS, limit=st.integers(16, 64), tokenizer=st.sampled_from([MINILM, WORDS]))
@example(title="", text="a" * 20_000, limit=16, tokenizer=MINILM)
@example(title="t", text="b " + " " * 9_000 + "c d " * 40, limit=16, tokenizer=MINILM)
def test_no_text_is_lost_and_no_passage_is_too_long(title, text, limit, tokenizer):
    if not compact(text):
        return
    found = cut(title, text, limit, tokenizer=tokenizer)

    joined = compact("".join(passage["text"] for passage in found))
    assert joined in (compact(text), compact(title + text))
    assert joined != compact(text) or found[0]["title"] == title
    for passage in found:
        embedded = f"{passage['title']}\n{passage['text']}".lstrip("\n")
        assert passage["tokens"] == len(tokenizer.encode(embedded)) <= limit


@settings(max_examples=60)
@given(text=SENTENCES, limit=st.integers(16, 40), overlap=st.integers(1, 40))
def test_no_text_is_lost_where_passages_overlap(text, limit, overlap):
    if not compact(text):
        return
    found = cut("Title", text, limit, overlap)

    assert covers([compact(passage["text"]) for passage in found], compact(text))
    assert max(passage["tokens"] for passage in found) <= limit


@given(text=TEXTS, limit=st.integers(16, 64))
def test_ids_number_the_passages_of_a_document(text, limit):
    if not compact(text):
        return
    found = cut("Title", text, limit)

    assert [passage["ordinal"] for passage in found] == list(range(len(found)))
    assert {passage["document_id"] for passage in found} == {"doc"}
    assert len({passage["id"][:24] for passage in found}) == 1
    assert [passage["id"][24:] for passage in found] == [f"{n:04x}{len(found):04x}" for n in range(len(found))]
    assert all(len(passage["id"]) == 32 for passage in found)


def test_a_document_that_fits_is_one_passage_untouched():
    text = "  Tea is a drink.\n\nInk {is} not. "

    (passage,) = cut("Tea", text, 256)

    assert (passage["title"], passage["text"], passage["ordinal"]) == ("Tea", text, 0)


def test_cuts_are_made_between_sentences():
    text = " ".join(f"This is the sentence that bears the number {n}." for n in range(60))

    found = cut("Numbers", text, 64)

    assert len(found) > 5
    assert all(p["text"].startswith("This") and p["text"].endswith(".") for p in found)


def test_neighbouring_passages_share_what_is_asked_for():
    text = " ".join(f"Number {n} stands here." for n in range(100))

    found = [passage["text"] for passage in cut("Numbers", text, 64, 16)]

    for one, other in pairwise(found):
        shared = next(other[:end] for end in range(len(other), 0, -1) if one.endswith(other[:end]))
        assert 0 < len(MINILM.encode(shared, add_special_tokens=False)) <= 16


def test_every_passage_of_a_long_document_bears_its_title():
    found = cut("Tea", "It is a drink. " * 100, 64)

    assert {passage["title"] for passage in found} == {"Tea"}


def test_a_title_of_more_than_half_a_passage_becomes_the_head_of_the_text():
    title = " ".join(f"word{n}" for n in range(40))

    found = cut(title, "It is a drink. " * 20, 64)

    assert {passage["title"] for passage in found} == {""}
    assert compact("".join(passage["text"] for passage in found)) == compact(title + "It is a drink. " * 20)


def test_a_long_title_of_a_short_document_stays():
    title = " ".join(f"word{n}" for n in range(40))

    (passage,) = cut(title, "It is a drink.", 200)

    assert passage["title"] == title


def test_a_row_of_a_hundred_kilobytes_is_cut():
    text = "".join(f"Number {n} bears the word {'endless' * 20}. " for n in range(600))

    found = cut("Numbers", text, 256, tokenizer=WORDS)

    assert len(text) > 100_000
    assert compact("".join(passage["text"] for passage in found)) == compact(text)
    assert max(passage["tokens"] for passage in found) <= 256


@pytest.mark.slow
def test_more_passages_than_can_be_numbered_are_refused():
    text = ("a" * 767 + " ") * 65_600

    with pytest.raises(SourceError, match=r"document doc makes 65\d\d\d passages, at most 65535 can be numbered"):
        cut("", text, 16, tokenizer=WORDS)


def test_metadata_goes_to_every_passage():
    rows = pa.RecordBatch.from_pylist(
        [{"document_id": "1", "text": "One two three. " * 40, "author": "A"}, {"document_id": "2", "text": "Short."}],
        row_schema(ColumnSettings(metadata=("author",))),
    )

    changed = documents(identified_rows(rows))
    found = passages(changed, cuts(changed, WORDS, TITLED, 32, 0), TITLED)

    assert found.column_names == ["id", "document_id", "title", "ordinal", "text", "tokens", "author"]
    authors = {(row["document_id"], row["author"]) for row in found.to_pylist()}
    assert authors == {("1", "A"), ("2", None)}


@pytest.mark.parametrize("text", ["{title}", "{", "}", "{0}{}", "{text!r:>100}", "%(text)s"])
def test_braces_are_data_and_never_templates(text):
    table = pa.table({"title": [text, ""], "text": [text, text]})

    assert embedding_texts(table, TITLED) == [f"{text}\n{text}", text]
    assert embedding_texts(table, PLAIN) == [text, text]


def test_the_model_s_limit_is_the_default_and_cannot_be_exceeded():
    assert passage_tokens(256, None) == 256
    assert passage_tokens(256, 128) == 128
    with pytest.raises(SettingsError, match=r"passages\.max_tokens is 257, but the model reads 256"):
        passage_tokens(256, 257)
    with pytest.raises(SettingsError, match="the model reads -3 tokens beside its prompt"):
        passage_tokens(-3, None)


def test_the_bundled_model_reads_256_tokens():
    chosen = SentenceTransformersSettings()
    folder = sentence_transformers_embeddings.model_folder(chosen)

    assert sentence_transformers_embeddings.model_max_tokens(chosen, folder, MINILM) == 256
    assert len(MINILM.encode("word " * 1000)) == 1002


def test_another_way_to_cut_is_another_vector_space(settings_with):
    changes = [
        {},
        {"passages.template": "plain_v1"},
        {"passages.max_tokens": 100},
        {"passages.overlap_tokens": 8},
        {"store.metric": "dot"},
        {"embedding.hashing.dimension": 64},
    ]

    found = {fingerprint(vector_space(settings_with(**change))) for change in changes}

    assert len(found) == len(changes)


def test_the_model_s_limit_spelled_out_is_the_same_vector_space(settings_with):
    assert vector_space(settings_with()) == vector_space(settings_with(**{"passages.max_tokens": 512}))
