"""BERT: whether a model folder holds a plain one, and its weights as arrays; no torch.

Devlin et al. 2019, arXiv 1810.04805; mean or CLS pooling as in Reimers and Gurevych 2019, arXiv 1908.10084.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError, safe_open

from squadron.embeddings.local.model_files import max_tokens, pooling_modes, read_json
from squadron.errors import EmbeddingError

_WEIGHTS = "model.safetensors"
_DTYPES = ("F32", "F16")
_SHAPE = ("num_hidden_layers", "num_attention_heads", "layer_norm_eps", "max_position_embeddings")


@dataclass(frozen=True)
class Bert:
    """A plain BERT encoder and how its token vectors become one."""

    layers: int
    heads: int
    epsilon: float
    positions: int
    """Longest sequence that the position embeddings allow."""
    pooling: str
    """`mean` or `cls`."""
    weights: dict[str, np.ndarray]
    """`float32`, by the names of `_names`."""


def obstacle(folder: Path) -> str | None:
    """Why this model is not a plain BERT encoder that can be run from its files; None when it is one."""
    config = read_json(folder, "config.json")
    if config.get("model_type") != "bert":
        return f"its model_type is {config.get('model_type')!r}, not 'bert'"
    for key, supported in (
        ("hidden_act", "gelu"),
        ("position_embedding_type", "absolute"),
        ("is_decoder", False),
        ("add_cross_attention", False),
        ("auto_map", None),
        ("quantization_config", None),
    ):
        if config.get(key, supported) != supported:
            return f"its config.json says {key} = {config[key]!r}"
    if missing := [key for key in _SHAPE if key not in config]:
        return f"its config.json lacks {', '.join(missing)}"
    if (folder / "adapter_config.json").exists():
        return "it has an adapter"
    return _module_obstacle(folder) or _file_obstacle(folder, config)


def read_bert(folder: Path) -> Bert:
    """The encoder in a folder that has no `obstacle`."""
    config = read_json(folder, "config.json")
    with safe_open(folder / _WEIGHTS, "numpy") as file:
        stored = _stored_names(file)
        weights = {name: file.get_tensor(stored[name]).astype(np.float32, copy=False) for name in _names(config)}
    return Bert(
        layers=config["num_hidden_layers"],
        heads=config["num_attention_heads"],
        epsilon=config["layer_norm_eps"],
        positions=config["max_position_embeddings"],
        pooling=pooling_modes(read_json(folder / read_json(folder, "modules.json")[1]["path"], "config.json"))[0],
        weights=weights,
    )


def _module_obstacle(folder: Path) -> str | None:
    modules = read_json(folder, "modules.json") or []
    names = [module["type"].rpartition(".")[2] for module in modules]
    if names not in (["Transformer", "Pooling"], ["Transformer", "Pooling", "Normalize"]):
        return f"its modules are {', '.join(names) or 'not listed in modules.json'}"
    if foreign := [module["type"] for module in modules if not module["type"].startswith("sentence_transformers.")]:
        return f"its module {foreign[0]} is not one of sentence-transformers"
    if modules[0]["path"]:
        return f"its network is in the folder {modules[0]['path']}"
    pooling = read_json(folder / modules[1]["path"], "config.json")
    if pooling_modes(pooling) not in (["mean"], ["cls"]):
        return f"its pooling is {'+'.join(pooling_modes(pooling))}"
    if not pooling.get("include_prompt", True):
        return "its pooling leaves the prompt out"
    transformer = read_json(folder, "sentence_bert_config.json")
    if transformer.get("do_lower_case"):
        return "sentence_bert_config.json lowers the texts"
    if transformer.get("transformer_task", "feature-extraction") != "feature-extraction":
        return f"its task is {transformer['transformer_task']}"
    return None


def _file_obstacle(folder: Path, config: dict[str, Any]) -> str | None:
    if not (folder / "tokenizer.json").is_file():
        return "it has no tokenizer.json"
    if not (folder / _WEIGHTS).is_file():
        return f"it has no {_WEIGHTS}"
    if max_tokens(folder) > config["max_position_embeddings"]:
        return f"it is to read {max_tokens(folder)} tokens and has {config['max_position_embeddings']} positions"
    try:
        with safe_open(folder / _WEIGHTS, "numpy") as file:
            stored = _stored_names(file)
            for name in _names(config):
                if name not in stored:
                    return f"{_WEIGHTS} lacks {name}"
                if (dtype := file.get_slice(stored[name]).get_dtype()) not in _DTYPES:
                    return f"its weights are {dtype}"
    except SafetensorError as error:
        raise EmbeddingError(
            f"{folder / _WEIGHTS} cannot be read: {error}. Download or copy the model again"
        ) from error
    return None


def _stored_names(file: Any) -> dict[str, str]:
    """The names without the `bert.` that some writers put before them -> the names in the file."""
    return {name.removeprefix("bert."): name for name in file.keys()}  # noqa: SIM118 - not a dict


def _names(config: dict[str, Any]) -> Iterator[str]:
    for table in ("word", "position", "token_type"):
        yield f"embeddings.{table}_embeddings.weight"
    parts = ["embeddings.LayerNorm"]
    for layer in range(config["num_hidden_layers"]):
        dense = ("attention.self.query", "attention.self.key", "attention.self.value", "attention.output.dense")
        rest = ("attention.output.LayerNorm", "intermediate.dense", "output.dense", "output.LayerNorm")
        parts += [f"encoder.layer.{layer}.{part}" for part in (*dense, *rest)]
    for part in parts:
        yield f"{part}.weight"
        yield f"{part}.bias"
