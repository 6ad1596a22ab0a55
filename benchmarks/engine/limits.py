"""Limits: what a machine can do at most. Its matrix products, the network's share of them, and its tokens."""

import statistics
import time
from pathlib import Path

import numpy as np

from squadron.embeddings.local import model_files
from squadron.embeddings.local.usable_cores import usable_cores
from squadron.embeddings.sentence_transformers_embeddings import tokenizer


def operations(folder: Path, texts: list[str]) -> float:
    """Additions and multiplications of the encoder's matrix products over these texts, padding not counted."""
    config = model_files.read_json(folder, "config.json")
    width, inner, layers = config["hidden_size"], config["intermediate_size"], config["num_hidden_layers"]
    lengths = np.array([len(each) for each in tokenizer(folder).encode_batch_fast(texts)])
    lengths = lengths.clip(max=model_files.max_tokens(folder))
    return float(layers * (2 * (4 * width**2 + 2 * width * inner) * lengths.sum() + 4 * width * (lengths**2).sum()))


def tokenizing_seconds(folder: Path, texts: list[str]) -> float:
    """What it takes to make tokens of the texts, on all cores, and nothing else; the median of three."""
    made, seconds = tokenizer(folder), []
    for _ in range(3):
        start = time.perf_counter()
        made.encode_batch_fast(texts)
        seconds.append(time.perf_counter() - start)
    return statistics.median(seconds)


def peak(device: str, precision: str) -> float:
    """Operations per second of square matrix products; the best of several goes."""
    return _cpu_peak(precision) if device == "cpu" else _gpu_peak(precision)


def _cpu_peak(precision: str, size: int = 1024, products: int = 8) -> float:
    """One stream on each core."""
    from squadron.embeddings.local.openvino_runtime import openvino
    from squadron.embeddings.local.openvino_runtime import opset13 as op

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
