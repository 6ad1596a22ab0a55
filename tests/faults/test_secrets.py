"""Secrets: whatever goes wrong, no key is in a log of any level, an error, a report, a file, a graph or a listing."""

import json
import logging
import os
import shutil
import subprocess
import sys
import traceback
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from squadron.errors import SquadronError
from squadron.runs.whole_run import ingest
from tests.faults.corpora import AFTER, settings_of
from tests.whole_runs import numbered
from tests.wire.cohere_server import CohereServer
from tests.wire.openai_server import OpenAIServer
from tests.wire.pinecone_server import PineconeServer
from tests.wire.weaviate_server import WeaviateServer

KEYS = {
    "OPENAI_API_KEY": "sk-secret-openai-7d1f0a9b3c",
    "CO_API_KEY": "co-secret-cohere-2e8b6f4a1d",
    "PINECONE_API_KEY": "pcsk_secret_pinecone_9a3e5c7b",
    "WEAVIATE_API_KEY": "weaviate-secret-4f2d8e6c0b",
}
FAULTS: dict[str, dict[str, Any]] = {
    "429 for ever": {"status": 429, "headers": {"retry-after": "0"}, "body": "not now, {key}"},
    "500 for ever": {"status": 500, "body": "out of order, {key}"},
    "refused": {"status": 403, "body": "not you, {key}"},
    "cut": {"dropped": True},
}
"""What a careless server does: it repeats the key that it was sent."""


@dataclass
class Site:
    """Servers of two backends, and settings that use them."""

    servers: dict[str, Any]
    settings: dict[str, Any]


@pytest.fixture(params=[("openai", "pinecone"), ("cohere", "weaviate")], ids="-".join)
def site(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[Site]:
    for variable, key in KEYS.items():
        monkeypatch.setenv(variable, key)
    with ExitStack() as stack:
        yield pinecone_site(stack) if "pinecone" in request.param else weaviate_site(stack)


def pinecone_site(stack: ExitStack) -> Site:
    service = stack.enter_context(OpenAIServer(KEYS["OPENAI_API_KEY"]))
    store = stack.enter_context(PineconeServer(KEYS["PINECONE_API_KEY"]))
    values = {
        "embedding.service": "openai",
        "embedding.openai.base_url": f"{service.url}/v1",
        "embedding.openai.deadline_seconds": 0.1,
        "store.name": "pinecone",
        "store.pinecone.host": store.url,
        "store.pinecone.max_retries": 0,
    }
    return Site({"embedding": service, "store": store}, values)


def weaviate_site(stack: ExitStack) -> Site:
    service = stack.enter_context(CohereServer(KEYS["CO_API_KEY"]))
    store = stack.enter_context(WeaviateServer(key=KEYS["WEAVIATE_API_KEY"]))
    values = {
        "embedding.service": "cohere",
        "embedding.cohere.base_url": service.url,
        "embedding.cohere.deadline_seconds": 0.1,
        "store.name": "weaviate",
        "store.weaviate.uri": store.uri,
        "store.weaviate.grpc_port": store.grpc_port,
        "store.weaviate.max_retries": 0,
    }
    return Site({"embedding": service, "store": store}, values)


def shown(*texts: str) -> set[str]:
    """The lines of the texts that bear a key."""
    return {line for text in texts for line in text.splitlines() if any(key in line for key in KEYS.values())}


def files(folder: Path) -> list[str]:
    """All that is stored below, as far as it can be taken for text."""
    return [path.read_bytes().decode("latin-1") for path in folder.rglob("*") if path.is_file()]


@pytest.mark.parametrize("backend", ["embedding", "store"])
def test_no_key_is_shown_whatever_fails(
    site: Site,
    backend: str,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    capfd: pytest.CaptureFixture[str],
) -> None:
    caplog.set_level(logging.DEBUG)
    told = []
    for number, fault in enumerate(FAULTS.values()):
        settings = settings_of(tmp_path, AFTER, **site.settings, collection=f"books{number}")
        body = fault.get("body", "").format(key=site.servers[backend].key)
        site.servers[backend].faults.add(".*", **fault | {"body": body})
        with pytest.raises(SquadronError) as refusal:
            ingest(settings)
        told += traceback.format_exception(refusal.value)
        site.servers[backend].faults.clear()
    site.servers[backend].key = "another"
    with pytest.raises(SquadronError) as refusal:
        ingest(settings_of(tmp_path, AFTER, **site.settings, collection="refused"))
    told += traceback.format_exception(refusal.value)

    assert len(caplog.text) > 1000
    assert not shown(caplog.text, *told, *capfd.readouterr(), *files(tmp_path))


def test_no_key_is_in_the_report_or_in_what_a_run_leaves(
    site: Site, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    (poison,) = numbered(11)
    settings = settings_of(
        tmp_path, AFTER, **site.settings, **{"guard.max_quarantined_fraction": 0.5, "evaluation.max_questions": 5}
    )
    site.servers["embedding"].refused.add(f"{poison['title']}\n{poison['context']}")

    report = ingest(settings)

    assert report["counts"]["quarantined"] == 1
    left = files(tmp_path)
    assert len(left) > 2
    assert not shown(json.dumps(report), caplog.text, settings.model_dump_json(), repr(settings), *left)


def test_no_key_is_in_a_listing_or_a_graph(tmp_path: Path) -> None:
    chosen = ["--set=embedding.service=openai", "--set=store.name=weaviate"]
    commands = [["config", "--json"], *([["graph", "graph.svg"]] if shutil.which("dot") else [])]

    for command in commands:
        done = subprocess.run(
            [sys.executable, "-W", "ignore", "-m", "squadron", *command, *chosen],
            cwd=tmp_path,
            env=os.environ | KEYS,
            capture_output=True,
            text=True,
            timeout=120,
        )
        assert done.returncode == 0, done.stderr
        assert not shown(done.stdout, done.stderr)
    assert not shown(*files(tmp_path))
