"""Model files: what the folder of a sentence-transformers model says about it, read without loading it."""

import json
from pathlib import Path
from typing import Any

from squadron.errors import EmbeddingError

_LEGACY_POOLING = {
    "pooling_mode_cls_token": "cls",
    "pooling_mode_max_tokens": "max",
    "pooling_mode_mean_tokens": "mean",
    "pooling_mode_mean_sqrt_len_tokens": "mean_sqrt_len_tokens",
    "pooling_mode_weightedmean_tokens": "weightedmean",
    "pooling_mode_lasttoken": "lasttoken",
}


def read_json(folder: Path, name: str) -> Any:
    """A file of the folder, `{}` when it is not there.

    Raises EmbeddingError when it is there and is not JSON.
    """
    path = folder / name
    if not path.is_file():
        return {}
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise EmbeddingError(f"{path} is not JSON: {error}. Download or copy the model again") from error


def max_tokens(folder: Path) -> int:
    """Tokens that the model reads of one text; it cuts off what follows.

    As sentence-transformers has it: what was set for the model, else the least of what tokenizer and network allow.
    """
    own = read_json(folder, "sentence_bert_config.json").get("max_seq_length")
    limits = [
        read_json(folder, "tokenizer_config.json").get("model_max_length"),
        read_json(folder, "config.json").get("max_position_embeddings"),
    ]
    limit = own or min((int(limit) for limit in limits if limit), default=0)
    if not limit:
        raise EmbeddingError(f"{folder} does not say how many tokens the model reads")
    return int(limit)


def dimension(folder: Path) -> int:
    """Width of the vectors: that of the last layer which names one."""
    width = read_json(folder, "config.json").get("hidden_size")
    for module in read_json(folder, "modules.json") or []:
        layer = read_json(folder / module["path"], "config.json") if module["path"] else {}
        pooled = layer.get("embedding_dimension") or layer.get("word_embedding_dimension")
        width = layer.get("out_features") or (pooled and pooled * len(pooling_modes(layer))) or width
    if not width:
        raise EmbeddingError(f"{folder} is not a sentence-transformers model: no width in its files")
    return int(width)


def pooling_modes(pooling: dict[str, Any]) -> list[str]:
    """How a pooling layer's configuration, of today or of before, makes one vector of a text's many."""
    modes = pooling.get("pooling_mode")
    if modes:
        return [modes] if isinstance(modes, str) else list(modes)
    return [mode for key, mode in _LEGACY_POOLING.items() if pooling.get(key)] or ["mean"]
