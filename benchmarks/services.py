"""How much of what a service admits is used: OpenAI and Cohere, on servers of ours with a latency and limits.

    python -m benchmarks.services [--seconds 30]

Each server is a process of its own and answers after 200 ms. With a limit of tokens per minute, the figure is
tokens billed per second over the limit; without one, requests per second over concurrency/latency. Memory is this
process's, in the middle and at the end.
"""

import argparse
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import psutil

from squadron.embeddings import cohere_embeddings, openai_embeddings
from squadron.embeddings.remote.pacing import BURST_SECONDS
from squadron.settings.embedding_sections import CohereSettings, OpenAISettings

LATENCY_SECONDS = 0.2
CONCURRENCY = 8
TOKENS_PER_MINUTE = 1_200_000
TEXT = "Towns which had been a day apart were suddenly within an hour of each other, and newspapers printed at dawn "
TEXTS_PER_CALL = 4096
WARM_SECONDS = BURST_SECONDS + 1


@dataclass(frozen=True)
class Case:
    """A service, and what is measured on it."""

    name: str
    server: str
    path: str
    module: ModuleType
    settings: type[OpenAISettings] | type[CohereSettings]
    batch_texts: int


CASES = [
    Case("openai", "tests.wire.openai_server", "/v1", openai_embeddings, OpenAISettings, 64),
    Case("cohere", "tests.wire.cohere_server", "", cohere_embeddings, CohereSettings, 64),
]


@dataclass(frozen=True)
class Sample:
    """How far a measurement was at some time."""

    seconds: float
    texts: int
    tokens: int
    megabytes: float


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--seconds", type=float, default=30.0, help="of each of the four measurements")
    seconds = parser.parse_args().seconds
    os.environ |= {"OPENAI_API_KEY": "of-the-benchmark", "CO_API_KEY": "of-the-benchmark"}
    print("service  tokens/min  texts/s    used  wanted  answered  failed           MB")
    missed = False
    for case in CASES:
        for limit, wanted in ((TOKENS_PER_MINUTE, 0.95), (None, 0.90)):
            with _server(case.server, limit) as url:
                model = _model(case, url, limit)
                samples = _samples(model, seconds)
            used = _used(case, samples, limit)
            texts = (samples[-1].texts - samples[0].texts) / (samples[-1].seconds - samples[0].seconds)
            memory = f"{samples[len(samples) // 2].megabytes:.0f} {samples[-1].megabytes:.0f}"
            print(
                f"{case.name:8} {limit or '-':>10} {texts:8.0f} {used:7.1%} {wanted:7.0%} "
                f"{model.answered.total():9} {model.failed.total():7} {memory:>12}",
                flush=True,
            )
            missed |= used < wanted
    sys.exit(missed)


def _model(case: Case, url: str, tokens_per_minute: int | None) -> Any:
    given = {
        "base_url": url + case.path,
        "dimensions": 512,
        "batch_texts": case.batch_texts,
        "concurrency": CONCURRENCY,
        "tokens_per_minute": tokens_per_minute,
    }
    if case.settings is CohereSettings:
        given["texts_per_minute"] = None
    return case.module.model(case.settings.model_validate(given), 512)


def _samples(model: Any, seconds: float) -> list[Sample]:
    """Embed for so long, after what a limit admits at once is used up. Raises if any text is refused or lost."""
    begin = time.monotonic()
    samples: list[Sample] = []
    texts = 0
    while not samples or samples[-1].seconds < seconds + WARM_SECONDS:
        purpose = "search_document"
        model.embed([TEXT + f"{texts + number}" for number in range(TEXTS_PER_CALL)], purpose)
        texts += TEXTS_PER_CALL
        megabytes = psutil.Process().memory_info().rss / 1e6
        samples.append(Sample(time.monotonic() - begin, texts, model.billed_tokens, megabytes))
    return [sample for sample in samples if sample.seconds > WARM_SECONDS]


def _used(case: Case, samples: list[Sample], tokens_per_minute: int | None) -> float:
    first, last = samples[0], samples[-1]
    seconds = last.seconds - first.seconds
    if tokens_per_minute:
        return (last.tokens - first.tokens) / seconds / (tokens_per_minute / 60)
    return (last.texts - first.texts) / case.batch_texts / seconds / (CONCURRENCY / LATENCY_SECONDS)


@contextmanager
def _server(module: str, tokens_per_minute: int | None) -> Iterator[str]:
    command = [sys.executable, "-m", module, "--cheap", "--latency-seconds", str(LATENCY_SECONDS)]
    if tokens_per_minute:
        command += ["--tokens-per-minute", str(tokens_per_minute), "--burst-seconds", "15"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=Path(__file__).resolve().parents[1])
    try:
        assert process.stdout
        yield process.stdout.readline().strip().rpartition("=")[2].removesuffix("/v1")
    finally:
        process.terminate()
        process.wait()


if __name__ == "__main__":
    main()
