"""Corpora: texts and questions to measure engines with, and networks of other sizes."""

import json
import shutil
from pathlib import Path

import numpy as np

from squadron.settings.home import PACKAGE_DATA

SAMPLE = PACKAGE_DATA / "sample.json"
Pair = tuple[str, str]
"""A text and a question that it answers."""


def texts_and_questions(
    parquet: Path | None, squad: Path | None, count: int, asked: int
) -> tuple[list[str], list[str]]:
    """Distinct texts, shuffled, and a question for each of the first; the sample is repeated with numbers before it."""
    pairs = _of_parquet(parquet) if parquet else _of_squad(squad or SAMPLE)
    if not (parquet or squad):
        pairs = [(f"{n} {text}" if n else text, ask) for n in range(-(-count // len(pairs))) for text, ask in pairs]
    order = np.random.default_rng(0).permutation(len(pairs))[:count]
    return [pairs[i][0] for i in order], [pairs[i][1] for i in order[:asked]]


def shaped(model: Path, shape: str, folder: Path) -> Path:
    """A model like the given one, of `LAYERSxWIDTH`, weights drawn: speed does not depend on them."""
    import torch
    from transformers import BertConfig, BertModel

    layers, width = (int(number) for number in shape.split("x"))
    target = folder / shape
    shutil.copytree(model, target, ignore=shutil.ignore_patterns("*.safetensors", "data_config.json"))
    pooling = json.loads((target / "1_Pooling" / "config.json").read_text())
    pooling |= {name: width for name in pooling if name.endswith("embedding_dimension")}
    (target / "1_Pooling" / "config.json").write_text(json.dumps(pooling))
    torch.manual_seed(0)
    config = BertConfig(
        num_hidden_layers=layers, hidden_size=width, num_attention_heads=width // 64, intermediate_size=4 * width
    )
    BertModel(config).save_pretrained(str(target))
    return target


def _of_parquet(path: Path) -> list[Pair]:
    import pyarrow.parquet as pq

    rows = pq.read_table(path, columns=["title", "context", "question"]).to_pylist()
    first = {row["context"]: (f"{row['title']}\n{row['context']}", row["question"]) for row in reversed(rows)}
    return list(first.values())


def _of_squad(path: Path) -> list[Pair]:
    articles = json.loads(path.read_text(encoding="utf-8"))["data"]
    paragraphs = [(article["title"], each) for article in articles for each in article["paragraphs"]]
    return [(f"{title}\n{each['context']}", each["qas"][0]["question"]) for title, each in paragraphs]
