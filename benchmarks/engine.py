"""Engines: passages per second of each backend and precision beside `SentenceTransformer.encode(batch_size=32)`.

    python benchmarks/engine.py                                            # the sample, repeated to 500 texts
    python benchmarks/engine.py --parquet train.parquet --texts 2000       # a file with title, context, question
    python benchmarks/engine.py --parquet train.parquet --texts 20000 --device cuda --batch-tokens 65536

All run in turns over the same texts, so that what else the machine does falls on each of them; figures are medians
over the rounds. `times` is the median of the rounds' own ratios. `agree@10` is the share of the ten passages nearest
to a question that are the reference's ten. `of peak` sets the model's arithmetic, padding not counted, against the
fastest matrix product of the same precision that was measured between the rounds.

`bare` is the network alone, over batches that were made tokens, sorted and cut before the clock starts; `of bare` is
an engine's speed beside it in the same precision. On a GPU it is the bound for whoever must make tokens, too.
"""

import argparse
import json
import logging
import platform
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq

from pipelines.embedding_settings import SentenceTransformersSettings
from pipelines.embeddings import model_files, sentence_transformers_embeddings
from pipelines.embeddings.engine import token_batches, usable_cores
from pipelines.embeddings.onnx_engine import OnnxEngine
from pipelines.embeddings.openvino_engine import OpenVINOEngine
from pipelines.embeddings.openvino_runtime import openvino
from pipelines.embeddings.openvino_runtime import opset13 as op
from pipelines.embeddings.torch_engine import TorchEngine

REFERENCE = "encode(batch_size=32)"
ENGINES = {
    "cpu": ["torch fp32", "onnx fp32", "openvino fp32", "openvino bf16", "openvino int8"],
    "cuda": ["bare fp32", "bare bf16", "torch fp32", "torch bf16"],
}
BARE_BATCH_TOKENS = 4096
Encode = Callable[[list[str]], np.ndarray]
_LOAD = """
import sys, time
start = time.perf_counter()
from pathlib import Path
from pipelines.embeddings.engine import load_engine
from pipelines.embedding_settings import SentenceTransformersSettings
settings = SentenceTransformersSettings(backend=sys.argv[1], precision=sys.argv[2], device=sys.argv[3])
load_engine(settings, Path(sys.argv[4])).encode(["where is the river"])
print(time.perf_counter() - start)
"""


def main() -> None:
    """Print a table on stdout and one JSON object on stderr."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--parquet", type=Path, help="a file with the columns title, context and question")
    parser.add_argument("--texts", type=int, default=500)
    parser.add_argument("--questions", type=int, default=300)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--engines", nargs="+", help="any of torch, onnx, openvino and bare, with a precision")
    parser.add_argument("--device", choices=ENGINES, default="cpu")
    parser.add_argument("--batch-tokens", type=int, help="tokens of one model call; else what suits each engine")
    arguments = parser.parse_args()
    if arguments.device == "cuda" and not _has_gpu():
        parser.error("--device cuda, but torch finds no GPU here: run it where there is one, with a torch built for it")
    logging.disable(logging.WARNING)

    folder = sentence_transformers_embeddings.model_folder(SentenceTransformersSettings())
    texts, questions = _corpus(arguments.parquet, arguments.texts, arguments.questions)
    device, names = arguments.device, arguments.engines or ENGINES[arguments.device]
    engines = {name: _engine(folder, name, device, arguments.batch_tokens) for name in names}
    engines = {REFERENCE: _reference(folder, device)} | engines
    rounds, vectors = _in_turns(engines, texts, arguments.rounds, device)
    asked = {name: encode(questions) for name, encode in engines.items()}
    operations = _operations(folder, texts)
    rows = [_row(name, rounds, vectors, asked, operations) for name in engines]
    for row in rows[1:]:
        if not row["engine"].startswith("bare"):
            row["load_seconds"] = _load_seconds(folder, row["engine"], device)
    _show(rows, texts, questions, rounds, device)


def _reference(folder: Path, device: str) -> Encode:
    from sentence_transformers import SentenceTransformer

    model = SentenceTransformer(str(folder), device=device)
    return lambda texts: model.encode(texts, batch_size=32, normalize_embeddings=True, show_progress_bar=False)


def _engine(folder: Path, name: str, device: str, batch_tokens: int | None) -> Encode:
    backend, precision = name.split()
    if backend == "bare":
        return _bare(folder, device, precision, batch_tokens or BARE_BATCH_TOKENS)
    if backend == "torch":
        return TorchEngine(folder, device, precision, batch_tokens).encode
    return {"openvino": OpenVINOEngine, "onnx": OnnxEngine}[backend](folder, precision, batch_tokens).encode


def _bare(folder: Path, device: str, precision: str, batch_tokens: int) -> Encode:
    """The network alone. Texts that it meets again come as batches of tokens that are on the device already."""
    import torch
    from sentence_transformers import SentenceTransformer

    model = SentenceTransformer(str(folder), device=device).eval()
    if precision == "bf16":
        model = model.bfloat16()
    met: dict[tuple[str, ...], list[tuple[list[int], dict[str, Any]]]] = {}

    def batches(texts: list[str]) -> list[tuple[list[int], dict[str, Any]]]:
        limits = {"truncation": True, "max_length": model.max_seq_length}
        lengths = [len(ids) for ids in model.tokenizer(texts, **limits)["input_ids"]]
        cut = token_batches(lengths, batch_tokens)
        tokens = [
            model.tokenizer([texts[i] for i in rows], padding=True, return_tensors="pt", **limits) for rows in cut
        ]
        return [(rows, dict(each.to(device))) for rows, each in zip(cut, tokens, strict=True)]

    def encode(texts: list[str]) -> np.ndarray:
        key = tuple(texts)
        met[key] = met.get(key) or batches(texts)
        with torch.inference_mode():
            found = [model(dict(each))["sentence_embedding"].float() for _, each in met[key]]
            vectors = torch.nn.functional.normalize(torch.cat(found)).cpu().numpy()
        in_order = np.empty_like(vectors)
        in_order[[row for rows, _ in met[key] for row in rows]] = vectors
        return in_order

    return encode


def _in_turns(
    engines: dict[str, Encode], texts: list[str], count: int, device: str
) -> tuple[list[dict[str, dict[str, float]]], dict[str, np.ndarray]]:
    """Per round and engine wall and processor seconds; and each engine's vectors."""
    rounds, vectors = [], {}
    for name, encode in engines.items():
        encode(texts if device != "cpu" or name.startswith("bare") else texts[:32])
    for _ in range(count):
        timed: dict[str, dict[str, float]] = {}
        for name, encode in engines.items():
            wall, processor = time.perf_counter(), time.process_time()
            vectors[name] = encode(texts)
            timed[name] = {"wall": time.perf_counter() - wall, "processor": time.process_time() - processor}
        for precision in ("fp32", "bf16"):
            timed[f"peak {precision}"] = {"flops": _peak(precision) if device == "cpu" else _gpu_peak(precision)}
        rounds.append(timed)
        print(f"round {len(rounds)} of {count} done", file=sys.stderr)
    return rounds, vectors


def _peak(precision: str, size: int = 1024, products: int = 8) -> float:
    """Operations per second of square matrix products, one stream on each core; the best of several goes."""
    x = op.parameter([size, size], np.float32)
    weights = np.random.default_rng(0).standard_normal((products, size, size), np.float32)
    axes = op.constant(np.array([0, 1], np.int32))
    sums = [op.reduce_max(op.matmul(x, op.constant(weight), False, True), axes, False) for weight in weights]
    cores = usable_cores()
    compiled = openvino.Core().compile_model(
        openvino.Model([op.result(each) for each in sums], [x], "products"),
        "CPU",
        {
            "INFERENCE_PRECISION_HINT": "f32" if precision == "fp32" else "bf16",
            "NUM_STREAMS": cores,
            "INFERENCE_NUM_THREADS": cores,
            "ENABLE_CPU_PINNING": False,
        },
    )
    queue = openvino.AsyncInferQueue(compiled, cores)
    best = float("inf")
    for _ in range(8):
        start = time.perf_counter()
        for _ in range(2 * cores):
            queue.start_async({0: weights[0]})
        queue.wait_all()
        best = min(best, time.perf_counter() - start)
    return 2 * size**3 * products * 2 * cores / best


def _gpu_peak(precision: str, size: int = 8192, products: int = 16) -> float:
    """Operations per second of square matrix products on the GPU; the best of several goes."""
    import torch

    dtype = torch.float32 if precision == "fp32" else torch.bfloat16
    one, other = (torch.randn(size, size, device="cuda", dtype=dtype) for _ in range(2))
    best = float("inf")
    for _ in range(4):
        torch.cuda.synchronize()
        start = time.perf_counter()
        for _ in range(products):
            torch.matmul(one, other)
        torch.cuda.synchronize()
        best = min(best, time.perf_counter() - start)
    return 2 * size**3 * products / best


def _operations(folder: Path, texts: list[str]) -> float:
    """Additions and multiplications of the encoder's matrix products over these texts."""
    config = model_files.read_json(folder, "config.json")
    width, inner, layers = config["hidden_size"], config["intermediate_size"], config["num_hidden_layers"]
    tokenizer = sentence_transformers_embeddings.tokenizer(folder)
    lengths = np.array([len(each) for each in tokenizer.encode_batch_fast(texts)]).clip(
        max=model_files.max_tokens(folder)
    )
    return float(layers * (2 * (4 * width**2 + 2 * width * inner) * lengths.sum() + 4 * width * (lengths**2).sum()))


def _row(
    name: str,
    rounds: list[dict[str, dict[str, float]]],
    vectors: dict[str, np.ndarray],
    asked: dict[str, np.ndarray],
    operations: float,
) -> dict[str, Any]:
    def median(of: Callable[[dict[str, dict[str, float]]], float]) -> float:
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


def _load_seconds(folder: Path, name: str, device: str) -> float:
    """From a new process to its first vector: imports, loading, one text; the median of three."""
    command = [sys.executable, "-c", _LOAD, *name.split(), device, str(folder)]
    return statistics.median(float(subprocess.check_output(command, stderr=subprocess.DEVNULL)) for _ in range(3))


def _corpus(parquet: Path | None, count: int, asked: int) -> tuple[list[str], list[str]]:
    """Distinct texts, shuffled, and a question for each of the first; the sample is repeated with numbers before it."""
    if parquet:
        rows = pq.read_table(parquet, columns=["title", "context", "question"]).to_pylist()
        first = {row["context"]: (f"{row['title']}\n{row['context']}", row["question"]) for row in reversed(rows)}
        pairs = list(first.values())
    else:
        sample = json.loads((Path(__file__).parents[1] / "data" / "sample.json").read_text(encoding="utf-8"))
        paragraphs = [(article["title"], each) for article in sample["data"] for each in article["paragraphs"]]
        repeats = -(-count // len(paragraphs))
        pairs = [
            (f"{f'{n} ' if n else ''}{title}\n{each['context']}", each["qas"][0]["question"])
            for n in range(repeats)
            for title, each in paragraphs
        ]
    order = np.random.default_rng(0).permutation(len(pairs))[:count]
    return [pairs[i][0] for i in order], [pairs[i][1] for i in order[:asked]]


def _show(
    rows: list[dict[str, Any]], texts: list[str], questions: list[str], rounds: list[dict[str, Any]], device: str
) -> None:
    packages = ("torch", "sentence-transformers", "transformers", "openvino", "onnxruntime", "tokenizers")
    about = {
        "date": f"{datetime.now(UTC):%Y-%m-%d}",
        "processor": _processor() if device == "cpu" else _gpu(),
        "cores": usable_cores(),
        "python": platform.python_version(),
        "versions": {package: version(package) for package in packages},
        "texts": len(texts),
        "questions": len(questions),
        "rounds": len(rounds),
        "peak_gigaflops": {
            precision: statistics.median(each[f"peak {precision}"]["flops"] for each in rounds) / 1e9
            for precision in ("fp32", "bf16")
        },
    }
    print(f"{about['date']}, {about['processor']}, {about['cores']} cores, Python {about['python']}")
    print(", ".join(f"{name} {found}" for name, found in about["versions"].items()))
    print(f"{len(texts)} texts, {len(questions)} questions, medians of {len(rounds)} rounds; matrix products reach")
    print(", ".join(f"{value:,.0f} GFLOP/s in {name}" for name, value in about["peak_gigaflops"].items()) + "\n")
    print(
        f"{'engine':<22}{'passages/s':>11}{'times':>7}{'cpu ms':>8}{'cpu times':>10}{'cosine mean':>12}{'least':>9}"
        f"{'agree@10':>10}{'recall@10':>10}{'of peak':>9}{'of bare':>9}{'load s':>8}"
    )
    for row in rows:
        peak, bare = (f"{row[share]:.0%}" if row[share] else "-" for share in ("of_peak", "of_bare"))
        load = f"{row['load_seconds']:.1f}" if "load_seconds" in row else "-"
        print(
            f"{row['engine']:<22}{row['passages_per_second']:>11.1f}{row['times_reference']:>7.2f}"
            f"{row['processor_ms_per_passage']:>8.1f}{row['times_reference_processor']:>10.2f}"
            f"{row['cosine_mean']:>12.6f}{row['cosine_min']:>9.5f}{row['agreement_at_10']:>10.4f}"
            f"{row['recall_at_10']:>10.4f}{peak:>9}{bare:>9}{load:>8}"
        )
    print(json.dumps(about | {"engines": rows, "seconds": rounds}), file=sys.stderr)


def _processor() -> str:
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), platform.machine())


def _has_gpu() -> bool:
    import torch

    return torch.cuda.is_available()


def _gpu() -> str:
    import torch

    return f"{torch.cuda.get_device_name()}, beside {_processor()}"


if __name__ == "__main__":
    main()
