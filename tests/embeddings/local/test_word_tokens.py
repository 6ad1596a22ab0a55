"""Tokens that are looked up word by word are those that the tokenizer makes of the whole text."""

# ruff: noqa: RUF001 - letters and marks that look alike are meant

import json
from functools import cache

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from tokenizers import Tokenizer, normalizers, pre_tokenizers, processors

from squadron.embeddings import tokenization
from squadron.embeddings.local import word_tokens
from squadron.embeddings.local.word_tokens import WordTokens
from squadron.settings.home import PACKAGE_DATA

# What may stand beside what: letters, marks, white space and signs that are none, specials, scripts without spaces.
PIECES = [
    *("river", "River", "RIVERS", "bank", "x" * 101, "naïve", "ﬁne", "İstanbul", "ΣΊΣΥΦΟΣ", "straße", "2010–2015"),
    *(
        "[CLS]",
        "[SEP",
        "[MASK]",
        "[UNK]",
        "##s",
        "$A",
        "'s",
        "...",
        "“",
        "”",
        "-",
        "_",
        "½",
        "\u0301",
        "\u200b",
        "\u200d",
    ),
    *("\x00", "\x01", "\x0b", "\x0c", "\x1c", "\x85", "\xa0", "\u2003", "\u2028", "\ufffd", "\ufeff", "\t", "\n", "\r"),
    *("铁路", "日本の", "한국어", "ไทย", "🦆", "\U0002f804", "é", "e\u0301", " ", "  "),
]
text = st.one_of(st.text(), st.lists(st.sampled_from(PIECES), max_size=12).map("".join))


def tokenizers() -> dict[str, Tokenizer]:
    whole = json.loads(tokenization.wordpiece().to_str())
    made = {"uncased": tokenization.wordpiece()}
    made["cased"] = Tokenizer.from_str(json.dumps(whole | {"normalizer": whole["normalizer"] | {"lowercase": False}}))
    made["accented"] = Tokenizer.from_str(
        json.dumps(whole | {"normalizer": whole["normalizer"] | {"strip_accents": False, "clean_text": False}})
    )
    made["as it is"] = Tokenizer.from_str(json.dumps(whole | {"normalizer": None}))
    made["unframed"] = Tokenizer.from_str(json.dumps(whole | {"post_processor": None}))
    return made


@cache
def whole(name: str, most: int | None) -> Tokenizer:
    made = Tokenizer.from_str(TOKENIZERS[name].to_str())
    if most:
        made.enable_truncation(most)
    return made


TOKENIZERS = tokenizers()
WORDS = {name: word_tokens.word_tokens(tokenizer) for name, tokenizer in TOKENIZERS.items()}


@pytest.mark.parametrize("name", TOKENIZERS)
@given(texts=st.lists(text, max_size=6), most=st.none() | st.sampled_from([2, 3, 7, 12]))
@example(texts=["", " ", "[MASK]ed river [ MASK ]", "\u0301 a", "a\x1cb \x0b c", "铁路" * 80], most=None)
def test_tokens_are_those_of_the_whole_text(name: str, texts: list[str], most: int | None) -> None:
    words = WORDS[name]
    assert words

    assert words.ids(texts, most) == [encoding.ids for encoding in whole(name, most).encode_batch_fast(texts)]


def test_tokens_of_the_sample_are_those_of_the_whole_texts() -> None:
    articles = json.loads((PACKAGE_DATA / "sample.json").read_text(encoding="utf-8"))["data"]
    texts = [f"{article['title']}\n{each['context']}" for article in articles for each in article["paragraphs"]]
    words = WordTokens(tokenization.wordpiece())

    for _ in range(2):  # when no word was met, and when all were
        assert words.ids(texts) == [encoding.ids for encoding in tokenization.wordpiece().encode_batch(texts)]


def test_more_words_than_are_kept_change_nothing() -> None:
    words = WordTokens(tokenization.wordpiece(), most_kept=8)
    texts = [" ".join(f"word{number} and{number}" for number in range(start, start + 9)) for start in range(9)]

    assert words.ids(texts) == [encoding.ids for encoding in tokenization.wordpiece().encode_batch(texts)]
    assert len(words._parts) <= 8


@pytest.mark.parametrize(
    "change",
    [
        lambda own: setattr(own, "normalizer", normalizers.NFKC()),
        lambda own: setattr(own, "pre_tokenizer", pre_tokenizers.ByteLevel()),
        lambda own: own.add_tokens(["ice cream"]),
        lambda own: own.enable_truncation(8),
        lambda own: own.enable_padding(),
    ],
    ids=["another normalizer", "another splitting", "a token with a space", "cuts", "pads"],
)
def test_a_tokenizer_that_does_not_go_by_words_is_left_alone(change) -> None:
    own = Tokenizer.from_str(tokenization.wordpiece().to_str())
    assert word_tokens.word_tokens(own)
    word_tokens.word_tokens.cache_clear()
    change(own)

    assert word_tokens.word_tokens(own) is None


def test_special_tokens_stand_where_the_tokenizer_puts_them() -> None:
    own = Tokenizer.from_str(tokenization.wordpiece().to_str())
    own.post_processor = processors.TemplateProcessing(
        "[CLS] [MASK] $A [SEP]", None, [("[CLS]", 101), ("[MASK]", 103), ("[SEP]", 102)]
    )

    assert WordTokens(own).ids(["a river", ""]) == [encoding.ids for encoding in own.encode_batch(["a river", ""])]
