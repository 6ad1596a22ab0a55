"""Model tokens: what a model in a folder reads of texts."""

from functools import lru_cache
from pathlib import Path

from tokenizers import Tokenizer

from squadron.embeddings.local.model_files import max_tokens
from squadron.embeddings.local.word_tokens import word_tokens


def model_tokenizer(folder: Path) -> Tokenizer:
    """The tokenizer of the folder's tokenizer.json, which neither cuts nor pads; not to be changed.

    While the file stays as it is, it is one and the same for all of a process, and what it met is known to all.
    """
    path = folder / "tokenizer.json"
    return _read(path, path.stat().st_mtime_ns)


class ModelTokens:
    """The tokens of texts, as many as the model reads of each."""

    def __init__(self, folder: Path) -> None:
        self._tokenizer, self._most = model_tokenizer(folder), max_tokens(folder)
        self._words = word_tokens(self._tokenizer)
        if self._words is None:
            self._tokenizer = Tokenizer.from_str(self._tokenizer.to_str())
            self._tokenizer.enable_truncation(self._most)

    def ids(self, texts: list[str]) -> list[list[int]]:
        """The token ids of each text, special ones included; what the model would not read is cut off."""
        if self._words:
            return self._words.ids(texts, self._most)
        return [encoding.ids for encoding in self._tokenizer.encode_batch_fast(texts)]


def uncut(tokenizer: Tokenizer) -> Tokenizer:
    """The tokenizer, which neither cuts nor pads from now on."""
    tokenizer.no_truncation()
    tokenizer.no_padding()
    return tokenizer


@lru_cache(maxsize=4)
def _read(path: Path, _changed_at: int) -> Tokenizer:
    return uncut(Tokenizer.from_file(str(path)))
