"""Index: what an application imports, asked from elsewhere than where the collection was ingested."""

import subprocess
import sys
import threading
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from dataclasses import FrozenInstanceError
from pathlib import Path
from threading import Barrier
from types import FrameType

import pytest

import squadron
from squadron import Index, Match
from squadron.dataflow.driver import Graph
from squadron.embeddings import hashing_embeddings
from squadron.errors import SettingsError, StoreError
from squadron.runs.whole_run import ingest
from squadron.settings.home import home_at
from squadron.settings.layers import Layer, resolve

CONFIG = """
[source]
name = "files"
path = "tickets.csv"
[source.columns]
text = "body"
title = "subject"
document_id = "number"
metadata = ["product", "Author"]
[embedding]
service = "hashing"
"""
TICKETS = """number,subject,body,product,Author
1,Password,I forgot my password and cannot log in to read my letters.,mail,Ada
2,Invoice,The invoice of March was charged twice to my card.,shop,
3,Printer,The printer prints every page twice and in red.,office,Größe 東京
"""


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A home in which the collection `tickets` was ingested."""
    folder = tmp_path_factory.mktemp("home")
    (folder / "config").mkdir()
    (folder / "config" / "tickets.toml").write_text(CONFIG)
    (folder / "tickets.csv").write_text(TICKETS, encoding="utf-8")
    ingest_below(folder)
    return folder


def ingest_below(folder: Path) -> None:
    with home_at(folder):
        ingest(resolve([Layer("test", {"collection": "tickets"}, folder)]).settings)


def test_a_question_is_answered_from_any_working_directory(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    best, *others = Index("tickets", home=home).search("invoice charged twice to my card", top_k=2)

    assert (best.rank, best.document_id, best.title) == (1, "2", "Invoice")
    assert best.text == "The invoice of March was charged twice to my card."
    assert len(best.passage_id) == 32
    assert [match.rank for match in others] == [2]
    assert best.score > others[0].score
    assert list(tmp_path.iterdir()) == []


def test_matches_have_the_stored_metadata(home: Path) -> None:
    found = Index("tickets", home=home).search("my letters, my card and a printer")

    metadata = {match.document_id: match.metadata for match in found}
    assert metadata["1"] == {"product": "mail", "Author": "Ada"}
    assert metadata["2"]["Author"] in (None, "")
    assert metadata["3"] == {"product": "office", "Author": "Größe 東京"}


def test_a_filter_takes_equal_values_only_and_an_unknown_column_is_refused(home: Path) -> None:
    index = Index("tickets", home=home)

    assert [match.document_id for match in index.search("twice", filter={"product": "office"})] == ["3"]
    with pytest.raises(StoreError, match=r"'colour'.*product"):
        index.search("twice", filter={"colour": "red"})


def test_a_match_cannot_be_changed(home: Path) -> None:
    (match,) = Index("tickets", home=home).search("twice", top_k=1)
    with pytest.raises(FrozenInstanceError):
        match.rank = 2  # type: ignore[misc]


@pytest.mark.parametrize(("question", "top_k"), [(" ", 5), ("twice", 0)])
def test_an_empty_question_and_no_matches_at_all_are_refused(home: Path, question: str, top_k: int) -> None:
    with pytest.raises((StoreError, ValueError), match=r"the question is empty|top_k is 0"):
        Index("tickets", home=home).search(question, top_k=top_k)


def test_settings_win_over_the_files(home: Path, tmp_path: Path) -> None:
    elsewhere = tmp_path / "empty"
    index = Index("tickets", home=home, settings={"store.lancedb.uri": str(elsewhere)})
    with pytest.raises(StoreError, match=rf"no live generation in lancedb at {elsewhere} \(there is no such folder\)"):
        index.search("anything")
    with pytest.raises(SettingsError, match=r"Index: 'store\.lancedb\.url' is not a setting"):
        Index("tickets", home=home, settings={"store.lancedb.url": "x"})


def test_without_a_live_generation_the_error_names_the_place_and_where_a_relative_path_started(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("SQUADRON_HOME", str(tmp_path / "project"))
    with pytest.raises(StoreError) as by_default:
        Index("tickets").search("anything")
    with pytest.raises(StoreError) as by_override:
        Index("tickets", settings={"store.lancedb.uri": "vectors"}).search("anything")

    folder = tmp_path / "project" / ".squadron" / "lancedb"
    for said in ("'tickets'", str(folder), "which is '.squadron/lancedb' below SQUADRON_HOME", "ingest first"):
        assert said in str(by_default.value)
    assert f"{tmp_path / 'vectors'} (there is no such folder), which is 'vectors' below the working" in str(
        by_override.value
    )
    assert list(tmp_path.iterdir()) == []


def test_an_index_answers_from_what_is_live_at_the_moment(tmp_path: Path) -> None:
    (tmp_path / "config").mkdir()
    (tmp_path / "config" / "tickets.toml").write_text(CONFIG)
    (tmp_path / "tickets.csv").write_text(TICKETS, encoding="utf-8")
    ingest_below(tmp_path)
    index = Index("tickets", home=tmp_path)
    assert "4" not in [match.document_id for match in index.search("a broken chair")]

    (tmp_path / "tickets.csv").write_text(f"{TICKETS}4,Chair,A broken chair.,office,Bob\n", encoding="utf-8")
    ingest_below(tmp_path)

    assert index.search("a broken chair", top_k=1)[0].document_id == "4"


def test_threads_may_share_an_index(home: Path) -> None:
    questions = {"forgot my password": "1", "invoice charged twice to my card": "2", "printer prints in red": "3"}
    shared, asked = Index("tickets", home=home), [*questions] * 10

    def first(position: int) -> str:
        index = shared if position % 2 else Index("tickets", home=home)
        return index.search(asked[position], top_k=1)[0].document_id

    with ThreadPoolExecutor(8) as threads:
        found = list(threads.map(first, range(len(asked))))

    assert found == [questions[question] for question in asked]


def test_threads_that_ask_first_at_once_make_one_graph_and_load_one_model(home: Path) -> None:
    counted = {Graph.__init__.__code__: "graphs", hashing_embeddings.model.__code__: "models"}
    index = Index("tickets", home=home, settings={"deadline_hours": 5})  # of its own, which no other test has
    calls, together = Counter[str](), Barrier(8)

    def note(frame: FrameType, event: str, _: object) -> None:
        if event == "call" and frame.f_code in counted:
            calls[counted[frame.f_code]] += 1

    def ask(_: int) -> None:
        together.wait(60)
        index.search("forgot my password")

    threading.setprofile(note)  # in threads that begin from now on
    try:
        with ThreadPoolExecutor(8) as threads:
            list(threads.map(ask, range(8)))
    finally:
        threading.setprofile(None)  # type: ignore[arg-type]

    assert calls == {"graphs": 1, "models": 1}


def test_the_package_offers_the_index_and_imports_nothing_until_it_is_asked_for() -> None:
    code = "import sys, squadron; print(sorted(name for name in sys.modules if name.startswith('squadron')))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout == "['squadron']\n"
    assert (squadron.Index, squadron.Match) == (Index, Match)
    with pytest.raises(AttributeError, match="has no attribute 'Indexes'"):
        _ = squadron.Indexes  # type: ignore[attr-defined]
