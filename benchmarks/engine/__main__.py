"""Engines: passages per second of each backend and precision beside `SentenceTransformer.encode(batch_size=32)`.

    python -m benchmarks.engine                                          # the sample, repeated to 500 texts
    python -m benchmarks.engine --parquet train.parquet --texts 2000     # a file with title, context, question
    python -m benchmarks.engine --squad train-v1.1.json --texts 20000 --device cuda [--shape 12x768]

All run in turns over the same texts, so that what else the machine does falls on each of them; figures are medians
over the rounds. `times` is the median of the rounds' own ratios. `agree@10` is the share of the ten passages nearest
to a question that are the reference's ten. `of peak` sets the model's arithmetic, padding not counted, against the
fastest matrix product of the same precision that was measured between the rounds.

`bare` is the network alone, over batches that were made tokens, sorted and cut before the clock starts, in the size
that is fastest for it; `of bare` is an engine's speed beside it in the same precision. Who must make tokens, too, is
also bound by `tokens/s`, what the tokenizer does alone on all cores. `--shape`: a BERT of so many layers and so wide.
"""

import argparse
import json
import logging
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.engine import corpora, limits
from benchmarks.engine.contenders import Encode, engine, reference
from benchmarks.machine import about
from squadron.embeddings.local.usable_cores import usable_cores
from squadron.embeddings.sentence_transformers_embeddings import model_folder
from squadron.settings.embedding_sections import SentenceTransformersSettings

REFERENCE = "encode(batch_size=32)"
ENGINES = {
    "cpu": ["torch fp32", "openvino fp32", "openvino bf16", "openvino int8"],
    "cuda": ["bare fp32", "bare bf16", "torch fp32", "torch bf16"],
}
PACKAGES = ("torch", "sentence-transformers", "transformers", "openvino", "tokenizers")
Timed = dict[str, dict[str, float]]
"""Of one round: engine -> seconds, `peak <precision>` -> flops."""
_LOAD = """
import sys, time
start = time.perf_counter()
from pathlib import Path
from squadron.embeddings.local.engine import load_engine
from squadron.settings.embedding_sections import SentenceTransformersSettings
settings = SentenceTransformersSettings(backend=sys.argv[1], precision=sys.argv[2], device=sys.argv[3])
load_engine(settings, Path(sys.argv[4])).encode(["where is the river"])
print(time.perf_counter() - start)
"""


def main() -> None:
    """Print a table on stdout; on stderr one JSON object per round, and one of all."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--parquet", type=Path, help="a file with the columns title, context and question")
    parser.add_argument("--squad", type=Path, help="instead: a file of SQuAD's own JSON")
    parser.add_argument("--texts", type=int, default=500)
    parser.add_argument("--questions", type=int, default=300)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--engines", nargs="+", help="any of torch, openvino and bare, with a precision")
    parser.add_argument("--device", choices=ENGINES, default="cpu")
    parser.add_argument("--batch-tokens", type=int, help="tokens of one model call; else what suits each engine")
    parser.add_argument("--loads", type=int, default=3, help="how often a new process loads each engine")
    parser.add_argument("--shape", help="instead of the default model: LAYERSxWIDTH, weights drawn")
    given = parser.parse_args()
    if given.device == "cuda" and not _has_gpu():
        parser.error("--device cuda, but torch finds no GPU here: run it where there is one, with a torch built for it")
    logging.disable(logging.WARNING)
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    with tempfile.TemporaryDirectory() as made:
        folder = model_folder(SentenceTransformersSettings())
        folder = corpora.shaped(folder, given.shape, Path(made)) if given.shape else folder
        _measure(given, folder)


def _measure(given: argparse.Namespace, folder: Path) -> None:
    texts, questions = corpora.texts_and_questions(given.parquet, given.squad, given.texts, given.questions)
    names = given.engines or _possible(ENGINES[given.device], given.device)
    engines = {name: engine(folder, name, given.device, given.batch_tokens) for name in names}
    engines = {REFERENCE: reference(folder, given.device)} | engines
    rounds, vectors = _in_turns(engines, texts, given.rounds, given.device)
    asked = {name: encode(questions) for name, encode in engines.items()}
    operations = limits.operations(folder, texts)
    rows = [_row(name, rounds, vectors, asked, operations) for name in engines]
    for row in rows[1:]:
        if given.loads and not row["engine"].startswith("bare"):
            row["load_seconds"] = _load_seconds(folder, row["engine"], given.device, given.loads)
    facts = about([package for package in PACKAGES if _is_there(package)]) | {
        "texts": len(texts),
        "questions": len(questions),
        "rounds": len(rounds),
        "tokenized_per_second": len(texts) / limits.tokenizing_seconds(folder, texts),
        "peak_gigaflops": {
            name.removeprefix("peak "): statistics.median(each[name]["flops"] for each in rounds) / 1e9
            for name in rounds[0]
            if name.startswith("peak ")
        },
    }
    if given.device == "cuda":
        facts["gpu"] = _gpu()
    _show(facts, rows)
    print(json.dumps(facts | {"engines": rows, "seconds": rounds}), file=sys.stderr)


def _in_turns(
    engines: dict[str, Encode], texts: list[str], count: int, device: str
) -> tuple[list[Timed], dict[str, np.ndarray]]:
    """Per round and engine wall and processor seconds; and each engine's vectors."""
    rounds, vectors = [], {}
    for name, encode in engines.items():
        few = 32 if device == "cpu" else 2_000
        encode(texts if name.startswith("bare") else texts[:few])
    precisions = [name.split()[1] for name in engines if name != REFERENCE]
    for _ in range(count):
        timed: Timed = {}
        for name, encode in engines.items():
            wall, processor = time.perf_counter(), time.process_time()
            vectors[name] = encode(texts)
            timed[name] = {"wall": time.perf_counter() - wall, "processor": time.process_time() - processor}
        for precision in ("fp32", "bf16"):
            if precision in precisions and (device != "cpu" or _is_there("openvino")):
                timed[f"peak {precision}"] = {"flops": limits.peak(device, precision)}
        rounds.append(timed)
        print(json.dumps({"round": len(rounds), **timed}), file=sys.stderr, flush=True)
    return rounds, vectors


def _row(
    name: str,
    rounds: list[Timed],
    vectors: dict[str, np.ndarray],
    asked: dict[str, np.ndarray],
    operations: float,
) -> dict[str, Any]:
    def median(of: Callable[[Timed], float]) -> float:
        return statistics.median(of(each) for each in rounds)

    precision = name.split()[1] if name != REFERENCE else "fp32"
    cosines = np.einsum("nd,nd->n", vectors[name], vectors[REFERENCE])
    peak, bare = f"peak {precision}", f"bare {precision}"
    return {
        "engine": name,
        "passages_per_second": len(cosines) / median(lambda each: each[name]["wall"]),
        "times_reference": median(lambda each: each[REFERENCE]["wall"] / each[name]["wall"]),
        "processor_ms_per_passage": 1e3 * median(lambda each: each[name]["processor"]) / len(cosines),
        "times_reference_processor": median(lambda each: each[REFERENCE]["processor"] / each[name]["processor"]),
        "cosine_mean": float(cosines.mean()),
        "cosine_min": float(cosines.min()),
        "agreement_at_10": _agreement(asked[name] @ vectors[name].T, asked[REFERENCE] @ vectors[REFERENCE].T),
        "recall_at_10": float(np.mean([row in best for row, best in enumerate(_best(asked[name] @ vectors[name].T))])),
        "of_peak": operations / median(lambda each: each[name]["wall"] * each[peak]["flops"])
        if peak in rounds[0]
        else None,
        "of_bare": median(lambda each: each[bare]["wall"] / each[name]["wall"]) if bare in rounds[0] else None,
    }


def _best(scores: np.ndarray) -> np.ndarray:
    return np.argsort(-scores, axis=1, kind="stable")[:, :10]


def _agreement(scores: np.ndarray, reference: np.ndarray) -> float:
    return float(np.mean([len(set(a) & set(b)) / 10 for a, b in zip(_best(scores), _best(reference), strict=True)]))


def _load_seconds(folder: Path, name: str, device: str, times: int) -> float:
    """From a new process to its first vector: imports, loading, one text; the median."""
    command = [sys.executable, "-c", _LOAD, *name.split(), device, str(folder)]
    return statistics.median(float(subprocess.check_output(command, stderr=subprocess.DEVNULL)) for _ in range(times))


def _show(facts: dict[str, Any], rows: list[dict[str, Any]]) -> None:
    beside = f"{facts['gpu']}, beside " if "gpu" in facts else ""
    print(f"{facts['date']}, {beside}{facts['processor']}, {usable_cores()} cores, Python {facts['python']}")
    print(", ".join(f"{name} {found}" for name, found in facts["packages"].items()))
    print(f"{facts['texts']} texts, {facts['questions']} questions, medians of {facts['rounds']} rounds; the tokenizer")
    peaks = ", ".join(f"{value:,.0f} GFLOP/s in {name}" for name, value in facts["peak_gigaflops"].items())
    print(f"alone makes tokens of {facts['tokenized_per_second']:,.0f} texts/s; matrix products reach {peaks}\n")
    print(
        f"{'engine':<22}{'passages/s':>11}{'times':>7}{'cpu ms':>8}{'cpu times':>10}{'cosine mean':>12}{'least':>9}"
        f"{'agree@10':>10}{'recall@10':>10}{'of peak':>9}{'of bare':>9}{'load s':>8}"
    )
    for row in rows:
        peak, bare = (f"{row[share]:.0%}" if row[share] else "-" for share in ("of_peak", "of_bare"))
        load = f"{row['load_seconds']:.1f}" if "load_seconds" in row else "-"
        print(
            f"{row['engine']:<22}{row['passages_per_second']:>11,.1f}{row['times_reference']:>7.2f}"
            f"{row['processor_ms_per_passage']:>8.1f}{row['times_reference_processor']:>10.2f}"
            f"{row['cosine_mean']:>12.6f}{row['cosine_min']:>9.5f}{row['agreement_at_10']:>10.4f}"
            f"{row['recall_at_10']:>10.4f}{peak:>9}{bare:>9}{load:>8}"
        )


def _possible(names: list[str], device: str) -> list[str]:
    """Those that this machine can run; of the others it is told why not."""
    lacking = set() if _is_there("torch") else set(names)
    lacking |= {name for name in names if name.startswith("openvino") and not _is_there("openvino")}
    if device == "cpu" and "openvino bf16" not in lacking and not _computes_bf16():
        lacking.add("openvino bf16")
    for name in sorted(lacking):
        print(f"{name} is left out: this machine lacks what it needs", file=sys.stderr)
    return [name for name in names if name not in lacking]


def _computes_bf16() -> bool:
    from squadron.embeddings.local.openvino_runtime import openvino

    return "BF16" in openvino.Core().get_property("CPU", "OPTIMIZATION_CAPABILITIES")


def _is_there(package: str) -> bool:
    try:
        return bool(version(package))
    except PackageNotFoundError:
        return False


def _has_gpu() -> bool:
    import torch

    return torch.cuda.is_available()


def _gpu() -> str:
    import torch

    return torch.cuda.get_device_name()


if __name__ == "__main__":
    main()
