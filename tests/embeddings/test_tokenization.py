"""Counts are those of tiktoken, or more than those of the tokenizers we have not got."""

# ruff: noqa: RUF001 - letters of other alphabets are meant

import base64
import hashlib
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from semantic_text_splitter import TextSplitter

from squadron.embeddings.tokenization import cl100k, coarse, is_upper_bound, token_counts, wordpiece
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


def run(code: str, tmp_path: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """A fresh process whose tiktoken keeps its files in `cache` and reaches no network."""
    nowhere = "http://127.0.0.1:9"
    environment = {
        **os.environ,
        "TIKTOKEN_CACHE_DIR": str(tmp_path / "cache"),
        "HTTPS_PROXY": nowhere,
        "https_proxy": nowhere,
        "PYTHONPATH": os.pathsep.join([str(tmp_path), *sys.path]),
    }
    return subprocess.run(
        [sys.executable, "-c", code, *arguments],
        env=environment,
        capture_output=True,
        text=True,
        check=True,
        timeout=120,
    )


# With tiktoken's vocabulary

_PLUGIN = """
from tiktoken.load import load_tiktoken_bpe
from tiktoken_ext import openai_public


def made_up():
    # How tiktoken cuts words before it merges.
    pattern = next(text for text in openai_public.cl100k_base.__code__.co_consts if "{L}" in str(text))
    ranks = load_tiktoken_bpe("https://vocabularies.test/made_up.tiktoken")
    return {"name": "made_up", "pat_str": pattern, "mergeable_ranks": ranks, "special_tokens": {}}


ENCODING_CONSTRUCTORS = {"made_up": made_up}
"""
_COUNT = """
import json, sys
import tiktoken
from squadron.embeddings.tokenization import CL100K, Vocabulary, is_upper_bound, tiktoken_tokenizer, token_counts
texts = json.load(open(sys.argv[1]))
ours = tiktoken_tokenizer(Vocabulary("made_up", CL100K.words))
theirs = tiktoken.get_encoding("made_up")
print(json.dumps([is_upper_bound(ours), token_counts(ours, texts), [len(theirs.encode_ordinary(t)) for t in texts]]))
"""


def test_counts_are_those_of_tiktoken_where_it_has_the_vocabulary(tmp_path: Path) -> None:
    texts = [*TEXTS.values(), *sample()]
    (tmp_path / "tiktoken_ext").mkdir()
    (tmp_path / "tiktoken_ext" / "made_up.py").write_text(_PLUGIN)
    (tmp_path / "texts.json").write_text(json.dumps(texts))
    cache = tmp_path / "cache" / hashlib.sha1(b"https://vocabularies.test/made_up.tiktoken").hexdigest()
    cache.parent.mkdir()
    cache.write_bytes(vocabulary_of(texts))

    done = run(_COUNT, tmp_path, str(tmp_path / "texts.json"))

    upper_bound, ours, theirs = json.loads(done.stdout)
    assert ours == theirs
    assert not upper_bound
    assert sum(ours) < 0.6 * sum(len(text.encode()) for text in texts)  # tokens were merged
    assert done.stderr == ""


def vocabulary_of(texts: list[str]) -> bytes:
    """A vocabulary as tiktoken stores one: every byte, and the beginnings of all words, the shortest first."""
    words = {word.encode() for text in texts for word in re.findall(r" ?\w+|[^\w ]+|\s+", text)}
    beginnings = {word[:length] for word in words for length in range(2, 7) if len(word) >= length}
    tokens = [bytes([byte]) for byte in range(256)] + sorted(beginnings, key=lambda token: (len(token), token))
    return b"".join(base64.b64encode(token) + b" %d\n" % rank for rank, token in enumerate(tokens))


# Without it

_COUNT_BYTES = """
import json, sys
from squadron.embeddings.tokenization import cl100k, coarse, is_upper_bound, token_counts
texts = json.load(open(sys.argv[1]))
bounds = [is_upper_bound(cl100k()), is_upper_bound(coarse()), is_upper_bound(cl100k())]
print(json.dumps([bounds, token_counts(cl100k(), texts), token_counts(coarse(), texts)]))
"""


def test_without_the_vocabulary_bytes_are_counted_and_one_warning_says_so(tmp_path: Path) -> None:
    texts = [*TEXTS.values(), ""]
    (tmp_path / "texts.json").write_text(json.dumps(texts))

    done = run(_COUNT_BYTES, tmp_path, str(tmp_path / "texts.json"))

    bounds, ours, coarsely = json.loads(done.stdout)
    assert bounds == [True, True, True]
    assert ours == [len(text.encode()) for text in texts]
    assert coarsely == [count + 2 for count in ours]
    assert [line.partition(" (")[0] for line in done.stderr.splitlines()] == [
        "tiktoken cannot have the vocabulary cl100k_base",
        "tiktoken cannot have the vocabulary o200k_base",
    ]
    assert "estimates of tokens and cost are upper bounds" in done.stderr


# With it or without it


@pytest.mark.parametrize("text", TEXTS.values(), ids=TEXTS.keys())
def test_no_text_has_more_tokens_than_are_counted(text: str) -> None:
    (count,) = token_counts(cl100k(), [text])
    assert fits(text, count, "text-embedding-3-small")
    assert is_upper_bound(cl100k()) or not fits(text, count - 1, "text-embedding-3-small")


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


def test_the_coarse_count_is_above_that_of_bert_for_english() -> None:
    texts = sample()
    ratio = sum(token_counts(coarse(), texts)) / sum(token_counts(wordpiece(), texts))
    assert ratio > 1.2
    assert is_upper_bound(coarse()) or ratio < 1.5


def test_special_tokens_are_counted() -> None:
    assert token_counts(wordpiece(), ["", "duck"]) == [2, 3]
    assert token_counts(coarse(), [""]) == [2]


def test_a_tokenizer_survives_being_copied_for_the_splitter() -> None:
    for tokenizer in (cl100k(), coarse(), wordpiece()):
        (special,) = token_counts(tokenizer, [""])
        pieces = TextSplitter.from_huggingface_tokenizer(tokenizer, 20).chunks(sample()[0])
        assert 15 < max(token_counts(tokenizer, pieces)) - special <= 20
