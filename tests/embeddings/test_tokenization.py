"""Counts are those of tiktoken, or more than those of the tokenizers we have not got."""

# ruff: noqa: RUF001 - letters of other alphabets are meant

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from semantic_text_splitter import TextSplitter

from squadron.embeddings.tokenization import cl100k, coarse, token_counts, wordpiece
from squadron.settings.home import PACKAGE_DATA

TEXTS = {
    "English": "Towns which had been a day apart were suddenly within an hour's ride, and they'd never been so near.",
    "German": "Städte, die eine Tagesreise voneinander entfernt gewesen waren, lagen plötzlich nahe beieinander.",
    "Greek": "Η ραγδαία ανάπτυξη των σιδηροδρόμων άλλαξε τον τρόπο με τον οποίο οι άνθρωποι σκέφτονταν.",
    "Russian": "Быстрое развитие железных дорог изменило представления людей о расстоянии и времени.",
    "Arabic": "غيّر التطور السريع للسكك الحديدية طريقة تفكير الناس في المسافة والزمن.",
    "Hindi": "रेलवे के तीव्र विकास ने दूरी और समय के बारे में लोगों की सोच को बदल दिया।",
    "Thai": "การพัฒนาอย่างรวดเร็วของทางรถไฟได้เปลี่ยนแปลงวิธีที่ผู้คนคิด",
    "Chinese": "十九世纪铁路的迅速发展改变了人们对距离和时间的看法。",
    "Japanese": "十九世紀における鉄道の急速な発展は人々の考え方を変えた。",
    "Korean": "철도의 급속한 발전은 거리와 시간에 대한 사람들의 생각을 바꾸어 놓았다.",
    "code": "def passage_tokens(limit: int | None) -> int:\n    if limit and limit > 8191:\n\t\treturn 8191\r\n\r\n",
    "digits": "3.14159265358979323846 2024-11-20 19:05:33 1,234,567.89 0xdeadbeef 192.168.100.254",
    "an address": "https://example.org/wiki/Special:Search?search=railways+of+Europe&ns0=1#results",
    "case": "I'LL we'Re DON'T camelCaseWord SCREAMING_SNAKE iPhone's",
    "white space": "  two  three   \n\n four\t\t\r\n  end  ",
    "special": "<|endoftext|> [CLS] \uffff and more",
    "emoji": "🦆🏳️\u200d🌈 👩\u200d👩\u200d👧 ☋☋",
}
# Characters per token that Cohere publishes for its multilingual tokenizer, for Wikipedia.
# https://huggingface.co/Cohere/multilingual-22-12
PUBLISHED = {"English": 4.8, "German": 4.6, "Arabic": 3.6, "Hindi": 3.8, "Chinese": 1.1, "Japanese": 1.3, "Korean": 2.0}


def fits(text: str, tokens: int, model: str) -> bool:
    """Whether tiktoken, as compiled into the splitter, counts no more than so many tokens."""
    return len(TextSplitter.from_tiktoken_model(model, tokens, trim=False).chunks(text)) == 1


def sample() -> list[str]:
    articles = json.loads((PACKAGE_DATA / "sample.json").read_text(encoding="utf-8"))["data"]
    return [paragraph["context"] for article in articles for paragraph in article["paragraphs"]]


@pytest.mark.parametrize("text", TEXTS.values(), ids=TEXTS.keys())
def test_counts_for_openai_are_those_of_tiktoken(text: str) -> None:
    (count,) = token_counts(cl100k(), [text])
    assert fits(text, count, "text-embedding-3-small")
    assert not fits(text, count - 1, "text-embedding-3-small")


def test_counts_of_the_sample_are_those_of_tiktoken() -> None:
    texts = sample()
    for text, count in zip(texts, token_counts(cl100k(), texts), strict=True):
        assert fits(text, count, "text-embedding-3-small")
        assert not fits(text, count - 1, "text-embedding-3-small")


@settings(deadline=None)
@given(st.text(min_size=1, max_size=80))
def test_whatever_the_text_tiktoken_counts_no_more(text: str) -> None:
    assert fits(text, token_counts(cl100k(), [text])[0], "text-embedding-3-small")
    assert fits(text, token_counts(coarse(), [text])[0], "gpt-4o")


@settings(deadline=None)
@given(st.text(max_size=80))
def test_no_token_is_shorter_than_a_byte(text: str) -> None:
    assert token_counts(cl100k(), [text])[0] <= len(text.encode())


@pytest.mark.parametrize("language", PUBLISHED)
def test_the_coarse_count_is_above_what_is_published_for_a_multilingual_model(language: str) -> None:
    text = TEXTS[language]
    assert token_counts(coarse(), [text])[0] > 1.2 * len(text) / PUBLISHED[language]


def test_the_coarse_count_is_above_that_of_bert_for_english_but_not_by_far() -> None:
    texts = sample()
    ratio = sum(token_counts(coarse(), texts)) / sum(token_counts(wordpiece(), texts))
    assert 1.2 < ratio < 1.5


def test_special_tokens_are_counted() -> None:
    assert token_counts(wordpiece(), ["", "duck"]) == [2, 3]
    assert token_counts(coarse(), [""]) == [2]


def test_a_tokenizer_survives_being_copied_for_the_splitter() -> None:
    for tokenizer in (cl100k(), coarse(), wordpiece()):
        (special,) = token_counts(tokenizer, [""])
        pieces = TextSplitter.from_huggingface_tokenizer(tokenizer, 20).chunks(sample()[0])
        assert 15 < max(token_counts(tokenizer, pieces)) - special <= 20
