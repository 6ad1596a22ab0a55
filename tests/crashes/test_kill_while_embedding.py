"""A process is killed while a paid service embeds: the next one sends again only what was in flight."""

from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.crashes.kills import KillingFaults, Launcher, Outcome, Reaper
from tests.whole_runs import numbered, write_corpus
from tests.wire.openai_server import OpenAIServer

pytestmark = pytest.mark.xdist_group("crashes")

KEY = "sk-crash-0123456789abcdef"
DOCUMENTS, BATCH, REQUEST_TEXTS, CONCURRENCY = 96, 64, 4, 3


@pytest.fixture
def server(launcher: Launcher) -> Iterator[OpenAIServer]:
    with OpenAIServer(KEY, latency_seconds=0.02) as server:
        server.counts_tokens = False
        server.faults = KillingFaults(Reaper(launcher.kill))
        yield server


def run(launcher: Launcher, server: OpenAIServer, folder: Path) -> Outcome:
    values = {
        "collection": "books",
        "embedding.service": "openai",
        "embedding.openai.base_url": f"{server.url}/v1",
        "embedding.openai.batch_texts": REQUEST_TEXTS,
        "embedding.openai.concurrency": CONCURRENCY,
        "store.lancedb.uri": str(folder / "lancedb"),
        "ingest.staging": str(folder / "staging"),
        "ingest.batch_passages": BATCH,
        "cache.path": str(folder / "cache"),
        **write_corpus(folder / "corpus.jsonl", numbered(*range(DOCUMENTS))),
    }
    order: dict[str, Any] = {"actions": ["ingest"], "values": values, "environment": {"OPENAI_API_KEY": KEY}}
    return launcher.run(order | {"stop": None, "traced": False, "root": str(folder), "watched": ""})


def sent(server: OpenAIServer) -> Counter[str]:
    """How often each passage came to the server."""
    return Counter(text for seen in server.seen for text in seen.texts if "The thing called" in text)


# The model is tried with a few requests first; then a batch of 64 passages is 16 requests, and one of 32 eight.
@pytest.mark.parametrize(("request_number", "answered"), [(6, True), (11, False), (16, True), (20, False)])
def test_what_was_answered_before_a_kill_is_not_sent_again(
    launcher: Launcher, server: OpenAIServer, tmp_path: Path, request_number: int, answered: bool
) -> None:
    reaper = server.faults.reaper
    reaper.watch(request_number, done=answered)
    first = run(launcher, server, tmp_path)
    reaper.watch(None)
    before = sent(server)

    second = run(launcher, server, tmp_path)

    assert first.killed
    assert 0 < len(before) < DOCUMENTS
    times = sent(server)
    assert len(times) == DOCUMENTS
    assert set(times.values()) <= {1, 2}
    assert sum(times.values()) - DOCUMENTS <= CONCURRENCY * REQUEST_TEXTS
    assert second.done[0]["counts"]["passages"] == DOCUMENTS


def test_a_batch_of_many_requests_is_one_file_of_the_cache(
    launcher: Launcher, server: OpenAIServer, tmp_path: Path
) -> None:
    run(launcher, server, tmp_path)

    assert set(sent(server).values()) == {1}
    assert len(server.seen) > DOCUMENTS / REQUEST_TEXTS
    spaces = Counter(path.parent for path in (tmp_path / "cache").rglob("*.parquet"))
    passages = -(-DOCUMENTS // BATCH)
    assert sorted(spaces.values())[-1] == passages
