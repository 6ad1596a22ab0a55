"""Guarded: another corpus is refused, also where some of it cannot be read, and before a repair writes."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from squadron.__main__ import app
from squadron.errors import GuardError
from squadron.runs.verify import verify
from squadron.runs.whole_run import ingest
from squadron.settings.schema import Settings
from tests.whole_runs import live, numbered, stored_rows, write_corpus
from tests.wire.openai_server import OpenAIServer

Changed = Callable[..., Settings]


def rows(settings: Settings) -> dict[str, Any]:
    return stored_rows(settings, live(settings) or "")


@pytest.fixture
def corpus(tmp_path: Path) -> Path:
    """A file of forty documents."""
    write_corpus(tmp_path / "corpus.jsonl", numbered(*range(40)))
    return tmp_path / "corpus.jsonl"


@pytest.fixture
def settings_of(settings_with: Changed, corpus: Path) -> Changed:
    """Settings of the corpus, which is in the index; takes changes by dotted key."""
    values = {"source.name": "files", "source.path": str(corpus), "source.columns.document_id": "id"}
    ingest(settings_with(**values))
    return lambda **changes: settings_with(**values | changes)


def test_a_broken_line_does_not_make_another_corpus_of_it(settings_of: Changed, corpus: Path) -> None:
    write_corpus(corpus, numbered(*range(100, 140)))
    corpus.write_text(corpus.read_text() + "{\n")
    before = rows(settings_of())

    with pytest.raises(GuardError, match=r"lacks 97\.5% of the documents"):
        ingest(settings_of())

    assert rows(settings_of()) == before


def test_as_many_documents_may_be_missing_as_there_are_broken_lines(settings_of: Changed, corpus: Path) -> None:
    write_corpus(corpus, numbered(*range(2, 40)))
    corpus.write_text(corpus.read_text() + "{\n{\n")

    changes = {"guard.max_deleted_fraction": 0.0, "guard.max_quarantined_fraction": 0.1}
    report = ingest(settings_of(**changes))

    assert (report["held_back"], len(rows(settings_of()))) == (2, 40)
    write_corpus(corpus, numbered(*range(3, 40)))
    corpus.write_text(corpus.read_text() + "{\n{\n")
    with pytest.raises(GuardError, match=r"lacks 2\.5% of the documents"):
        ingest(settings_of(**changes))


def test_a_repair_by_another_corpus_writes_nothing(settings_of: Changed, corpus: Path) -> None:
    write_corpus(corpus, numbered(*range(100, 140)))
    before = rows(settings_of())

    with pytest.raises(GuardError, match=r"lacks 100\.0% of the documents"):
        verify(settings_of(), repair=True)

    assert rows(settings_of()) == before
    assert verify(settings_of())["counts"]["missing"] == 40  # to look is allowed


@pytest.fixture
def billed(openai: OpenAIServer, settings_of: Changed) -> Changed:
    """The same, embedded by OpenAI's service."""
    service = {"embedding.service": "openai", "embedding.openai.base_url": f"{openai.url}/v1"}
    ingest(settings_of(**service))
    return lambda **changes: settings_of(**service | changes)


def test_a_repair_does_not_mix_the_vectors_of_two_models(billed: Changed, openai: OpenAIServer) -> None:
    before = rows(billed())
    openai.renewed = "another model"

    for repair in (False, True):
        with pytest.raises(GuardError, match="is not the model that made this generation"):
            verify(billed(), repair, vectors=10)

    assert rows(billed()) == before


def test_a_repair_keeps_to_the_budget(billed: Changed, openai: OpenAIServer, corpus: Path) -> None:
    write_corpus(corpus, numbered(*range(50)))
    sent = len(openai.seen)

    with pytest.raises(GuardError, match=r"tokens are to be embedded, budget\.max_tokens allows 10"):
        verify(billed(**{"budget.max_tokens": 10}), repair=True, vectors=0)

    assert len(openai.seen) == sent + 1  # the fixed texts
    assert len(rows(billed())) == 40
    assert verify(billed(), repair=True, vectors=0)["counts"]["written"] == 10


def test_a_repair_that_could_not_write_all_fails(
    billed: Changed, openai: OpenAIServer, corpus: Path, tmp_path: Path
) -> None:
    write_corpus(corpus, numbered(*range(41)))
    openai.refused.add(f"Number 40\n{numbered(40)[0]['context']}")
    changed = billed()
    values = {
        "collection": changed.collection,
        "source.name": "files",
        "source.path": str(corpus),
        "source.columns.document_id": "id",
        "embedding.service": "openai",
        "embedding.openai.base_url": changed.embedding.openai.base_url,
        "store.lancedb.uri": changed.store.lancedb.uri,
        "ingest.staging": changed.ingest.staging,
        "cache.path": "null",
    }
    command = ["verify", "--repair", "--json", *(f"--set={key}={value}" for key, value in values.items())]

    failed = CliRunner().invoke(app, command)
    openai.refused.clear()
    mended = CliRunner().invoke(app, command)

    assert (failed.exit_code, mended.exit_code) == (1, 0), failed.output
    assert '"left": 1' in failed.stdout
    assert '"left": 0' in mended.stdout


def test_ids_that_are_repeated_beyond_a_limit_are_left_out_as_well(settings_with: Changed, tmp_path: Path) -> None:
    listed = numbered(*range(40))
    other = [dict(listed[3], context="Other three."), dict(listed[31], context="Other thirty-one.")]
    corpus = write_corpus(tmp_path / "c.jsonl", [*listed[:10], other[0], *listed[10:32], other[1], *listed[32:]])
    settings = settings_with(
        **corpus,
        **{"source.limit": 33, "guard.max_quarantined_fraction": 0.2, "evaluation.max_questions": 0},
    )

    report = ingest(settings)

    stored = [row["document_id"] for row in rows(settings).values()]
    assert len(stored) == len(set(stored)) == 33
    assert {"doc-00003", "doc-00031"}.isdisjoint(stored)
    assert report["counts"]["quarantined"] == 2
    assert verify(settings)["sound"]
