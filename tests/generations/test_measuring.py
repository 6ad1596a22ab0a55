"""Measuring: questions are asked until ten documents are ranked."""

from collections.abc import Callable
from pathlib import Path

import pytest

from squadron.runs.whole_run import ingest
from squadron.settings.schema import Settings
from tests.whole_runs import write_corpus


def long_documents(count: int, passages: int) -> list[dict[str, str]]:
    """Documents that speak of one thing at length, each with a question that the last of them would answer."""
    return [
        {
            "id": f"doc-{n}",
            "title": f"Number {n}",
            "context": " ".join(f"The harbour has a crane and a quay, says line {line}." for line in range(passages))
            + f" Its pilot is pilot{n}.",
            "question": f"Which harbour with a crane and a quay has pilot{n}?",
        }
        for n in range(count)
    ]


def test_long_documents_that_fill_the_first_places_do_not_hide_the_tenth(
    settings_with: Callable[..., Settings], tmp_path: Path
) -> None:
    long = [row | {"question": None} for row in long_documents(5, passages=80)]
    short = [
        {"id": f"short-{n}", "title": f"Letter {n}", "context": f"A quay, somewhere: {n}.", "question": question}
        for n, question in enumerate(["Which harbour has a crane and a quay?"] * 5)
    ]
    corpus = write_corpus(tmp_path / "corpus.jsonl", [*long, *short])

    report = ingest(settings_with(**corpus, **{"passages.max_tokens": 32, "passages.overlap_tokens": 0}))

    assert report["counts"]["passages"] > 5 * 30
    assert report["metrics"]["recall_at_5"] == 0  # the passages of the long ones are nearer, all of them
    assert report["metrics"]["recall_at_10"] == 1  # there are only ten documents


def test_questions_whose_ten_documents_are_too_deep_are_told(
    settings_with: Callable[..., Settings], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    corpus = write_corpus(tmp_path / "corpus.jsonl", long_documents(9, passages=600))

    ingest(settings_with(**corpus, **{"passages.max_tokens": 32, "passages.overlap_tokens": 0}))

    assert "for 9 questions the first 960 passages are of fewer than ten documents" in caplog.text
