"""Model tokens: the tokenizer of a model in a folder."""

from functools import lru_cache
from pathlib import Path

from tokenizers import Tokenizer

from squadron.embeddings.local.model_files import max_tokens


def model_tokenizer(folder: Path) -> Tokenizer:
    """The tokenizer of the folder's tokenizer.json, which neither cuts nor pads. It is shared: do not change it."""
    path = folder / "tokenizer.json"
    return _read(path, path.stat().st_mtime_ns)


def truncating_tokenizer(folder: Path) -> Tokenizer:
    """The same, which leaves out what the model would not read of a text."""
    tokenizer = Tokenizer.from_str(model_tokenizer(folder).to_str())
    tokenizer.enable_truncation(max_tokens(folder))
    return tokenizer


def uncut(tokenizer: Tokenizer) -> Tokenizer:
    """The tokenizer, which neither cuts nor pads from now on."""
    tokenizer.no_truncation()
    tokenizer.no_padding()
    return tokenizer


@lru_cache(maxsize=4)
def _read(path: Path, _changed_at: int) -> Tokenizer:
    return uncut(Tokenizer.from_file(str(path)))
