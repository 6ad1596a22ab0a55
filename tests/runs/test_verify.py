"""Verifying: whatever somebody does to the rows behind Squadron's back is found, and mended when that is asked for."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from squadron.dataflow.driver import shared_graph
from squadron.errors import GuardError, StoreError
from squadron.generations.catalog import generations
from squadron.runs.explain import explain
from squadron.runs.verify import verify
from squadron.runs.whole_run import ingest
from squadron.settings.schema import Settings
from tests.whole_runs import numbered, stored_rows, write_corpus

Changed = Callable[..., Settings]


@pytest.fixture
def settings(settings_with: Changed, tmp_path: Path) -> Settings:
    """Forty documents, ingested."""
    settings = settings_with(**write_corpus(tmp_path / "corpus.jsonl", numbered(*range(40))))
    ingest(settings)
    return settings


def table_of(settings: Settings) -> Any:
    return shared_graph(settings).value("generation_table", generation=verify(settings)["generation"])


def counts_of(report: dict[str, Any], *names: str) -> list[int]:
    return [report["counts"][name] for name in names]


def test_an_index_that_is_as_it_should_be_is_sound(settings: Settings) -> None:
    report = verify(settings, vectors=1_000_000)

    assert report["sound"]
    assert counts_of(report, "documents", "passages", "missing", "extra", "altered") == [40, 40, 0, 0, 0]
    assert report["counts"]["vectors_checked"] == 40
    (generation,) = report["generations"]
    assert (generation["rows"], generation["recorded_rows"]) == (40, 40)
    assert (generation["missing_documents"], generation["extra_documents"]) == (0, 0)


@pytest.mark.parametrize(
    ("change", "counts"),
    [
        (lambda table: table.delete("title IN ('Number 3', 'Number 4')"), [2, 0, 0]),
        (lambda table: table.update(where="title = 'Number 5'", values={"text": "Something else."}), [0, 0, 1]),
        (lambda table: table.update(where="title = 'Number 6'", values={"title": ""}), [0, 0, 1]),
        (lambda table: table.update(where="title = 'Number 7'", values={"vector": [0.0] * 256}), [0, 0, 1]),
        (lambda table: table.update(where="title = 'Number 8'", values={"vector": [1.0] + [0.0] * 255}), [0, 0, 1]),
        (lambda table: table.update(where="title = 'Number 9'", values={"id": "f" * 28 + "0001"}), [1, 1, 0]),
        (lambda table: table.update(where="title = 'Number 9'", values_sql={"vector": "NULL"}), [0, 0, 1]),
        (lambda table: table.delete("true"), [40, 0, 0]),
    ],
    ids=["rows gone", "a text", "a title", "a zero vector", "another vector", "a foreign row", "no vector", "all gone"],
)
def test_what_was_altered_is_found_and_mended(settings: Settings, change: Any, counts: list[int]) -> None:
    table = table_of(settings)
    before = stored_rows(settings, table.name)
    change(table)

    found = verify(settings, vectors=1_000_000)
    assert not found["sound"]
    assert counts_of(found, "missing", "extra", "altered") == counts
    assert counts_of(found, "written", "deleted") == [0, 0]
    repaired = verify(settings, repair=True, vectors=1_000_000)

    assert counts_of(repaired, "written", "deleted") == [counts[0] + counts[2], counts[1]]
    assert verify(settings, vectors=1_000_000)["sound"]
    assert stored_rows(settings, table.name) == before
    assert ingest(settings)["counts"]["written"] == 0


def test_a_corpus_that_changed_since_shows_as_drift_and_can_be_caught_up_with(
    settings: Settings, tmp_path: Path
) -> None:
    write_corpus(tmp_path / "corpus.jsonl", numbered(*range(2, 45)))

    report = verify(settings)

    assert counts_of(report, "missing", "extra", "altered") == [5, 2, 0]
    assert (report["generations"][0]["missing_documents"], report["generations"][0]["extra_documents"]) == (5, 2)

    verify(settings, repair=True)

    (about,) = generations(settings)
    assert (about["documents"], about["rows"]) == (43, 43)


def test_a_repair_does_not_delete_more_than_the_guard_allows(settings: Settings) -> None:
    table = table_of(settings)
    rows = table.to_arrow().slice(0, 20)
    foreign = [key[:12] + "f" * 12 + key[24:] for key in rows["id"].to_pylist()]  # other versions of documents
    table.add(rows.set_column(rows.column_names.index("id"), "id", pa.array(foreign)).cast(table.schema))

    with pytest.raises(GuardError, match=r"explains 40 of the 60 rows"):
        verify(settings, repair=True)

    assert table_of(settings).count_rows() == 60


def test_the_live_generation_is_verified_as_it_was_made(settings: Settings) -> None:
    """Settings that will begin another generation do not make this one unsound."""
    changed = settings.model_copy(
        update={"passages": settings.passages.model_copy(update={"template": "plain_v1"})},
    )
    assert verify(changed, vectors=1_000_000)["sound"]


def test_without_a_live_generation_there_is_nothing_to_verify(settings_with: Changed) -> None:
    with pytest.raises(StoreError, match="no live generation"):
        verify(settings_with())


def test_a_document_explains_itself(settings: Settings, tmp_path: Path) -> None:
    stored = explain(settings, "doc-00003")
    write_corpus(tmp_path / "corpus.jsonl", [*numbered(3, context="Another text."), *numbered(*range(10, 60))])

    assert (stored["state"], stored["corpus"][0]["passages"]) == ("stored", 1)
    assert stored["generations"][0]["passage_ids"] == stored["corpus"][0]["passage_ids"]
    assert explain(settings, "doc-00003")["state"] == "stale"
    assert explain(settings, "doc-00004")["state"] == "expired"
    assert explain(settings, "doc-00055")["state"] == "missing"
    assert explain(settings, "doc-99999")["state"] == "unknown"
    assert "the next ingest replaces it" in explain(settings, "doc-00003")["verdict"]


def test_versions_of_one_document_are_explained(settings: Settings, tmp_path: Path) -> None:
    rows = [*numbered(*range(40)), *numbered(1, context="Another text for the same id.")]
    write_corpus(tmp_path / "corpus.jsonl", rows)

    assert explain(settings, "doc-00001")["state"] == "ambiguous"
    assert len(explain(settings, "doc-00001")["corpus"]) == 2


def test_a_document_of_several_passages_that_lost_one_is_partial(settings_with: Changed, tmp_path: Path) -> None:
    long = " ".join(f"This is sentence {number} of a text." for number in range(300))
    corpus = write_corpus(tmp_path / "corpus.jsonl", numbered(1, context=long))
    settings = settings_with(**corpus)
    ingest(settings)
    table = table_of(settings)
    first = pa.array(sorted(table.to_arrow()["id"].to_pylist()))[0].as_py()
    table.delete(f"id = '{first}'")

    found = explain(settings, "doc-00001")

    assert found["state"] == "partial"
    assert len(found["generations"][0]["passage_ids"]) == found["corpus"][0]["passages"] - 1 > 1
    assert np.isclose(verify(settings)["counts"]["missing"], 1)


def test_a_document_beyond_the_limit_is_explained_as_an_ingest_sees_it(settings_with: Changed, tmp_path: Path) -> None:
    corpus = write_corpus(tmp_path / "corpus.jsonl", numbered(*range(40)))
    limited = settings_with(**corpus, **{"source.limit": 10})
    ingest(limited)

    assert explain(limited, "doc-00009")["state"] == "stored"
    assert explain(limited, "doc-00010")["state"] == "unknown"
    assert explain(settings_with(**corpus), "doc-00010")["state"] == "missing"
    assert explain(settings_with(**corpus, **{"source.limit": 5}), "doc-00009")["state"] == "expired"
