"""Word tokens: BERT's tokens of words that were met before, looked up instead of made again.

BERT's tokenizer looks at what stands between two spaces by itself, and there again at what stands between two of
ASCII's punctuation marks (Devlin et al. 2019, arXiv 1810.04805; Wu et al. 2016, arXiv 1609.08144): the tokens of a text
are those of its words in a row, and most words are met again and again. How a word becomes tokens is for the tokenizer
to say, and is not known here.
"""

import re
from collections.abc import Callable
from functools import lru_cache
from itertools import chain, islice

from tokenizers import Tokenizer, models, normalizers, pre_tokenizers

_WORDS = re.compile(r"[^ \t\n\r!-/:-@\[-`{-~]+|[!-/:-@\[-`{-~]")
MOST_KEPT = 1 << 18
"""Words, and parts of texts, that are remembered; together they take some 60 MB."""
_LONGEST_KEPT = 64
# Languages without spaces have no words to look up: their texts are left to the tokenizer, which uses all cores.
_CHARACTERS_BETWEEN_SPACES = 32

Ids = tuple[int, ...]


class WordTokens:
    """The tokens of texts, by those of their words."""

    def __init__(self, tokenizer: Tokenizer, most_kept: int = MOST_KEPT) -> None:
        self._tokenizer = tokenizer
        self._special = [token.content for token in tokenizer.get_added_tokens_decoder().values()]
        self._head, self._tail = _frame(tokenizer)
        self._model = tokenizer.model
        self._lowers = tokenizer.normalizer is not None and tokenizer.normalizer.lowercase
        self._words = _Kept(self._of_word, most_kept)
        self._parts = _Kept(self._of_part, most_kept)

    def ids(self, texts: list[str], most: int | None = None) -> list[list[int]]:
        """The token ids of each text, special ones included; of at most so many, those in front."""
        inner = None if most is None else most - len(self._head) - len(self._tail)
        others = [text for text in texts if len(text) > _CHARACTERS_BETWEEN_SPACES * (text.count(" ") + 1)]
        made = iter(self._tokenizer.encode_batch_fast(others, add_special_tokens=False))
        left, found = set(others), []
        for text in texts:
            parts = [next(made).ids] if text in left else map(self._parts.__getitem__, text.split(" "))
            found.append([*self._head, *islice(chain.from_iterable(parts), inner), *self._tail])
        return found

    def _of_part(self, part: str) -> Ids:
        """Of what stands between two spaces."""
        if any(special in part for special in self._special):
            return self._made(part)
        return tuple(chain.from_iterable(map(self._words.__getitem__, _WORDS.findall(part))))

    def _of_word(self, word: str) -> Ids:
        """Of what stands between two marks. Plain words need not be looked at closely, which takes most of the time."""
        if not (word.isascii() and word.isalnum()):
            return self._made(word)
        return tuple(token.id for token in self._model.tokenize(word.lower() if self._lowers else word))

    def _made(self, text: str) -> Ids:
        return tuple(self._tokenizer.encode(text, add_special_tokens=False).ids)


class _Kept(dict[str, Ids]):
    """What was made of a text before; where nothing was, it is made."""

    def __init__(self, make: Callable[[str], Ids], most: int) -> None:
        super().__init__()
        self._make, self._most = make, most

    def __missing__(self, text: str) -> Ids:
        made = self._make(text)
        if len(text) <= _LONGEST_KEPT:
            if len(self) >= self._most:
                self.clear()
            self[text] = made
        return made


@lru_cache(maxsize=4)
def word_tokens(tokenizer: Tokenizer) -> WordTokens | None:
    """The same one each time it is asked for; None where the tokens of a text are not those of its words."""
    by_words = (
        isinstance(tokenizer.model, models.WordPiece)
        and isinstance(tokenizer.pre_tokenizer, pre_tokenizers.BertPreTokenizer)
        and isinstance(tokenizer.normalizer, normalizers.BertNormalizer | None)
        and not any(token.normalized or " " in token.content for token in tokenizer.get_added_tokens_decoder().values())
        and tokenizer.truncation is None
        and tokenizer.padding is None
    )
    return WordTokens(tokenizer) if by_words else None


def _frame(tokenizer: Tokenizer) -> tuple[list[int], list[int]]:
    """The special tokens before and behind those of a text."""
    alone = tokenizer.encode("a", add_special_tokens=False).ids
    framed = tokenizer.encode("a").ids
    before = next(at for at in range(len(framed)) if framed[at : at + len(alone)] == alone)
    return framed[:before], framed[before + len(alone) :]
