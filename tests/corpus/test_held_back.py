"""Held back: a document that was in the index stays in it while it, or what may be it, cannot be read in the corpus."""

import json
import tempfile
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from typer.testing import CliRunner

from squadron.__main__ import app
from squadron.corpus import quarantine
from squadron.errors import GuardError, SourceError
from squadron.runs.explain import explain
from squadron.runs.plan import plan_run
from squadron.runs.report import plan_report
from squadron.runs.verify import verify
from squadron.runs.whole_run import ingest
from squadron.settings.layers import Layer, resolve
from squadron.settings.schema import Settings
from tests.whole_runs import live, numbered, run, stored_rows, write_corpus

Changed = Callable[..., Settings]
BROKEN = (
    lambda line: line[:-1],
    lambda line: line.replace(b'"context": "', b'"context": '),
    lambda line: b"\xff" + line,
    lambda line: b"[" + line + b"]",
    lambda line: b"no JSON",
)
"""Ways to break a line so that nobody can tell whose it is."""


def lines_of(*numbers: int, **changes: Any) -> list[bytes]:
    return [json.dumps(row).encode() for row in numbered(*numbers, **changes)]


def write(folder: Path, lines: list[bytes], **changes: Any) -> Settings:
    """Settings of a corpus of these lines."""
    (folder / "corpus.jsonl").write_bytes(b"\n".join(lines))
    values: dict[str, Any] = {"collection": "books", "embedding.service": "hashing", "store.lancedb.uri": "lancedb"}
    values |= {"ingest.staging": "staging", "cache.path": None, "evaluation.max_questions": 5}
    corpus = {"source.name": "files", "source.path": "corpus.jsonl", "source.columns.document_id": "id"}
    return resolve([Layer("test", values | corpus | changes, folder)]).settings


def documents(settings: Settings) -> set[str]:
    """The documents in the live generation."""
    generation = live(settings)
    assert generation
    return {row["document_id"] for row in stored_rows(settings, generation).values()}


def names(*numbers: int) -> set[str]:
    return {row["id"] for row in numbered(*numbers)}


@pytest.fixture
def indexed(tmp_path: Path) -> Callable[..., Settings]:
    """Forty documents in the index; takes the lines of another corpus, and changes by dotted key."""
    run(write(tmp_path, lines_of(*range(40))))
    return lambda lines, **changes: write(tmp_path, lines, **changes)


@hypothesis_settings(max_examples=6)
@given(
    at=st.integers(0, 39),
    way=st.integers(0, len(BROKEN) - 1),
    gone=st.sets(st.integers(0, 39), max_size=5),
    new=st.integers(40, 45),
)
def test_whichever_line_is_broken_nothing_is_lost_and_mended_all_is_as_if_it_never_was(
    at: int, way: int, gone: set[int], new: int
) -> None:
    with tempfile.TemporaryDirectory() as one, tempfile.TemporaryDirectory() as other:
        folder, left = Path(one), [n for n in range(new) if n not in gone | {at}]
        run(write(folder, lines_of(*range(40))))
        lines = lines_of(*left)
        lines.insert(min(at, len(lines)), BROKEN[way](lines_of(at)[0]))
        broken = run(write(folder, lines), "broken")
        during = documents(write(folder, lines))
        (entry,) = quarantine.listed(write(folder, lines))
        mended = write(folder, lines_of(*left, at))
        after = run(mended, "mended")
        clean = write(Path(other), lines_of(*left, at))
        run(clean)

        assert during == names(*range(40), *range(new))
        assert (broken.plan.quarantined, broken.plan.deleted) == (1, 0)
        assert broken.plan.held_back == len(gone | {at})
        assert entry["place"].endswith(f"corpus.jsonl, line {min(at, len(left)) + 1}")
        assert (after.plan.quarantined, after.plan.held_back, after.plan.deleted) == (0, 0, len(gone - {at}))
        assert quarantine.listed(mended) == []
        assert stored_rows(mended, live(mended) or "") == stored_rows(clean, live(clean) or "")


@pytest.mark.parametrize("text", [5, ["Tea"], None, " "], ids=["a number", "a list", "null", "blank"])
def test_of_a_row_whose_id_can_be_read_exactly_that_document_stays(indexed: Changed, text: Any) -> None:
    lines = [*lines_of(7, context=text), *lines_of(*range(10, 40))]
    settings = indexed(lines)

    done = run(settings)

    assert (done.plan.quarantined, done.plan.held_back, done.plan.deleted) == (1, 1, 9)
    assert documents(settings) == names(7, *range(10, 40))
    (entry,) = quarantine.listed(settings)
    assert entry["document_id"] == "doc-00007"


def test_a_changed_document_is_replaced_though_deletions_are_held_back(indexed: Changed) -> None:
    settings = indexed([*lines_of(0, context="Another text."), *lines_of(*range(1, 39)), b"{"])

    done = run(settings)

    assert (done.plan.deleted, done.plan.held_back, done.plan.to_embed) == (1, 1, 1)
    assert documents(settings) == names(*range(40))
    texts = [row["text"] for row in stored_rows(settings, done.plan.generation).values() if row["title"] == "Number 0"]
    assert texts == ["Another text."]


def test_a_row_without_text_and_id_may_be_any_document(indexed: Changed) -> None:
    settings = indexed([*lines_of(*range(35)), b'{"ident": "doc-00036", "content": "Tea."}'])

    assert run(settings).plan.held_back == 5
    assert documents(settings) == names(*range(40))


def test_versions_of_one_document_leave_it_as_it_was(indexed: Changed) -> None:
    lines = [*lines_of(*range(39)), *lines_of(3, context="Another text."), *lines_of(50), *lines_of(50, title="T")]
    settings = indexed(lines, **{"guard.max_quarantined_fraction": 0.1})
    before = stored_rows(settings, live(settings) or "")

    done = run(settings)
    after = stored_rows(settings, done.plan.generation)

    assert (done.plan.quarantined, done.plan.held_back, done.plan.deleted) == (2, 1, 1)
    assert documents(settings) == names(*range(39))
    assert after == {key: row for key, row in before.items() if key in after}
    assert {entry["document_id"]: entry["reason"][:28] for entry in quarantine.listed(settings)} == {
        "doc-00003": "stands for 2 different texts",
        "doc-00050": "stands for 2 different texts",
    }
    assert done.plan.questions == 5
    mended = indexed([*lines_of(*range(39)), *lines_of(50)])
    assert run(mended).plan.quarantined == 0
    assert documents(mended) == names(*range(39), 50)


def test_a_file_that_cannot_be_read_holds_back_its_documents_until_it_can(tmp_path: Path) -> None:
    (tmp_path / "parts").mkdir()
    for part in range(25):
        (tmp_path / "parts" / f"{part:02}.jsonl").write_bytes(b"\n".join(lines_of(part * 2, part * 2 + 1)))
    settings = write(tmp_path, [], **{"source.path": "parts"})
    run(settings)
    (tmp_path / "parts" / "07.jsonl").unlink()
    (tmp_path / "parts" / "07.jsonl").symlink_to("nowhere")
    (tmp_path / "parts" / "03.jsonl").write_bytes(lines_of(6)[0])

    broken = run(settings)
    held = documents(settings)
    (tmp_path / "parts" / "07.jsonl").unlink()
    (tmp_path / "parts" / "07.jsonl").write_bytes(b"\n".join(lines_of(14, 15)))
    mended = run(settings)

    assert (broken.plan.quarantined, broken.plan.deleted, broken.plan.held_back) == (1, 0, 3)
    assert held == names(*range(50))
    assert (mended.plan.quarantined, mended.plan.deleted, mended.plan.held_back) == (0, 1, 0)
    assert documents(settings) == names(*range(50)) - names(7)


def test_a_corpus_that_cannot_be_read_at_all_deletes_nothing(indexed: Changed) -> None:
    settings = indexed([b"{"] * 40, **{"guard.max_deleted_fraction": 1, "guard.max_quarantined_fraction": 1})

    with pytest.raises(SourceError, match=r"nothing of the corpus .* can be read: .*corpus\.jsonl, line 1: not JSON"):
        ingest(settings)

    assert documents(settings) == names(*range(40))
    assert len(quarantine.listed(settings)) == 40


def test_more_than_the_guard_allows_fails_before_anything_is_embedded_and_names_the_first(indexed: Changed) -> None:
    settings = indexed([*lines_of(*range(37)), b"{", b"{", b"{", b"{"])

    with pytest.raises(GuardError) as refused:
        plan_run(settings, "run")

    assert str(refused.value).startswith("4 rows cannot be read, or have no text, beside 37 that can and do (9.8%): ")
    assert [f"line {line}: not JSON" in str(refused.value) for line in (38, 39, 40, 41)] == [True, True, True, False]
    assert len(quarantine.listed(settings)) == 4


def test_verifying_neither_reports_nor_removes_what_is_held_back(indexed: Changed) -> None:
    lines = [*lines_of(*range(30)), *lines_of(5, title="Another"), *lines_of(6, context=5), b"{"]
    settings = indexed(lines[:30] + lines[-1:])

    found, repaired = verify(settings), verify(settings, repair=True)
    known = verify(indexed(lines[:5] + lines[7:-1], **{"guard.max_quarantined_fraction": 1}))
    repeated = verify(indexed(lines[:-1], **{"guard.max_quarantined_fraction": 1}), repair=True)

    assert found["sound"]
    assert repaired["sound"]
    assert [(report["counts"]["extra"], report["counts"]["held_back"]) for report in (found, repaired)] == [(0, 10)] * 2
    assert (known["counts"]["missing"], known["counts"]["extra"], known["counts"]["held_back"]) == (1, 11, 1)
    assert [repeated["counts"][name] for name in ("missing", "deleted", "held_back")] == [0, 10, 1]


def test_a_new_generation_is_refused_while_it_would_lack_what_cannot_be_read(indexed: Changed) -> None:
    other = {"passages.template": "plain_v1"}
    broken = [*lines_of(*range(39)), b"{"]

    with pytest.raises(GuardError, match=r"a new generation would lack 1 documents of the live one.*line 40: not JSON"):
        plan_run(indexed(broken, **other), "run")
    with pytest.raises(GuardError, match=r"would lack 1 documents of the live one"):
        plan_run(indexed([*lines_of(*range(39)), *lines_of(39, context="")], **other), "run")
    never_there = plan_run(indexed([*lines_of(*range(40)), b"{"], **other), "run")
    gone = plan_run(indexed(lines_of(*range(39)), **other), "run")

    assert (never_there.documents, never_there.quarantined) == (40, 1)
    assert gone.documents == 39


def test_the_log_the_report_and_the_listing_say_it(indexed: Changed, caplog: pytest.LogCaptureFixture) -> None:
    lines = [*lines_of(*range(38)), b'{"id": "SECRET', b"[]"]
    settings = indexed(lines)
    first = ingest(settings)
    told = [record.getMessage() for record in caplog.records if "in quarantine" in record.getMessage()]
    since = {entry["place"]: entry["first_seen"] for entry in quarantine.listed(settings)}
    ingest(settings)
    entries = quarantine.listed(settings)
    place = f"--set=ingest.staging={settings.ingest.staging}"
    shown = CliRunner().invoke(app, ["quarantine", "--set=collection=books", place], env={"COLUMNS": "400"})

    assert (first["counts"]["quarantined"], first["counts"]["deleted"], first["held_back"]) == (2, 0, 2)
    (line,) = told
    assert line.startswith("2 rows or files of the corpus are in quarantine")
    assert "corpus.jsonl, line 39: not JSON: " in line
    assert "2 passages that the corpus does not show stay" in caplog.text
    assert {entry["place"]: entry["first_seen"] for entry in entries} == since
    assert all(place.startswith(f"{settings.source.path}, line ") for place in since)
    assert "SECRET" not in caplog.text + shown.stdout + json.dumps(entries)
    assert "corpus.jsonl, line 39" in shown.stdout
    assert "wanted a JSON object, found list" in shown.stdout


def test_a_dry_run_says_what_it_would_hold_back(indexed: Changed) -> None:
    planned = plan_run(indexed([*lines_of(*range(38)), b"{"]), "dry", dry_run=True)

    assert plan_report(planned, in_batches=False)["held_back"] == asdict(planned)["held_back"] == 2
    assert plan_report(planned, in_batches=False)["counts"]["quarantined"] == 1


def test_a_document_that_cannot_be_read_explains_itself(indexed: Changed) -> None:
    settings = indexed([*lines_of(*range(38)), *lines_of(38, 60, context=5)])
    known, new, gone = (explain(settings, f"doc-000{n}") for n in (38, 60, 39))
    unknown = explain(indexed([*lines_of(*range(38)), b"{"]), "doc-00039")

    assert [about["state"] for about in (known, new, gone, unknown)] == ["held", "quarantined", "expired", "held"]
    assert "its rows stay" in known["verdict"]
    assert known["unread"][0]["place"].endswith("corpus.jsonl, line 39")
    assert unknown["unread"][0]["place"].endswith("corpus.jsonl, line 39")


def test_without_ids_a_row_without_a_text_holds_nothing_back(settings_with: Changed, tmp_path: Path) -> None:
    """A document without an id is its text: an empty one is none."""

    def reading(rows: list[dict[str, Any]]) -> Settings:
        return settings_with(**write_corpus(tmp_path / "c.jsonl", rows) | {"source.columns.document_id": None})

    run(reading(numbered(*range(40))))

    done = run(reading([*numbered(*range(38)), *numbered(38, context="")]))

    assert (done.plan.deleted, done.plan.held_back, done.plan.quarantined) == (2, 0, 0)
