"""Hostile documents are data: stored, found, filtered by and shown as they are, in every store, by the command line."""

import json
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from squadron.__main__ import app
from squadron.runs.whole_run import ingest
from tests.faults.hostile import hostile_rows
from tests.faults.test_outages import KEY, STARTED, settings_of, stored_texts
from tests.whole_runs import write_corpus


@pytest.fixture(params=["lancedb", "pinecone", "weaviate"])
def store(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[dict[str, Any]]:
    """Settings of a store."""
    monkeypatch.setenv("PINECONE_API_KEY", KEY)
    monkeypatch.setenv("WEAVIATE_API_KEY", KEY)
    with ExitStack() as stack:
        yield STARTED[request.param](stack).settings if request.param in STARTED else {}


def test_hostile_documents_are_stored_found_and_filtered_by_as_they_are(store: dict[str, Any], tmp_path: Path) -> None:
    rows = hostile_rows()
    settings = settings_of(tmp_path, range(30), **store)
    write_corpus(tmp_path / "corpus.jsonl", rows)

    report = ingest(settings)

    assert report["example_question"] in {row["question"] for row in rows}
    assert sorted(stored_texts(settings).values()) == sorted(row["context"] for row in rows)
    places = {"store.lancedb.uri": str(tmp_path / "lancedb"), "collection": "books", "embedding.service": "hashing"}
    given = [f"--set={key}={value}" for key, value in (places | store).items()]
    for row in rows:
        filters = [f"--filter=title={row['title']}", f"--filter=document_id={row['id']}"]
        done = CliRunner().invoke(app, ["search", row["question"], *given, *filters, "--json"])
        assert done.exit_code == 0, done.stderr
        (match,) = json.loads(done.stdout)["matches"]
        found = [match[name] for name in ("document_id", "title", "text")]
        assert found == [row["id"], row["title"], row["context"]]


def test_hostile_documents_are_shown_to_a_person_and_not_taken_for_markup(tmp_path: Path) -> None:
    settings = settings_of(tmp_path, range(30))
    write_corpus(tmp_path / "corpus.jsonl", hostile_rows())
    ingest(settings)
    given = [f"--set={key}={value}" for key, value in {"store.lancedb.uri": str(tmp_path / "lancedb")}.items()]

    done = CliRunner().invoke(
        app, ["search", "hostile8", "--top-k=20", *given, "--set=collection=books", "--set=embedding.service=hashing"]
    )

    assert done.exit_code == 0, done.stderr
    assert "[bold red]markup[/bold red]" in done.stdout
    assert "<script>alert('1')</script>" in done.stdout
