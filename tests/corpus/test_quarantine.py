"""The quarantine table: what could not be embedded and why, run after run; and how a person sees it."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet
import pytest
from typer.testing import CliRunner

from squadron.__main__ import app
from squadron.corpus import quarantine
from squadron.corpus.findings import Findings
from squadron.errors import GuardError
from squadron.runs.plan import plan_run
from squadron.runs.whole_run import ingest
from squadron.settings.schema import Settings
from squadron.staging import shards as staging
from tests.whole_runs import numbered, write_corpus

Changed = Callable[..., Settings]


@pytest.fixture
def corpus(settings_with: Changed, tmp_path: Path) -> Changed:
    """Settings of a corpus of 100 documents, some of them without a text. Takes these, and changes by dotted key."""

    def written(*blank: int, **changes: Any) -> Settings:
        rows = [row | {"context": " "} if n in blank else row for n, row in enumerate(numbered(*range(100)))]
        return settings_with(**write_corpus(tmp_path / "corpus.jsonl", rows) | changes)

    return written


def passages(*numbers: int) -> pa.Table:
    rows = [{"id": f"{n:032x}", "document_id": f"doc-{n}", "title": "T", "text": f"{n} " * 300} for n in numbers]
    return pa.Table.from_pylist(rows)


def found(settings: Settings, run_id: str, shard: int, *numbers: int) -> Findings:
    findings = Findings(settings, run_id, f"shard-{shard}")
    findings.add_passages(passages(*numbers), {row: f"reason of {n}" for row, n in enumerate(numbers)})
    return findings


def documents(settings: Settings) -> set[str]:
    return {entry["document_id"] for entry in quarantine.listed(settings)}


def test_rows_without_a_text_are_listed_until_they_have_one_or_are_gone(corpus: Changed) -> None:
    ingest(corpus(3, 50, 99))
    first = {entry["document_id"]: entry for entry in quarantine.listed(corpus())}
    ingest(settings := corpus(50, 99))
    second = {entry["document_id"]: entry for entry in quarantine.listed(settings)}
    ingest(corpus())

    assert {name: entry["row"] for name, entry in first.items()} == {"doc-00003": 4, "doc-00050": 51, "doc-00099": 100}
    assert set(first["doc-00003"]) == set(quarantine.SCHEMA.names)
    assert first["doc-00003"]["reason"] == "the row has no text"
    assert first["doc-00003"]["title"] == "Number 3"
    assert set(second) == {"doc-00050", "doc-00099"}
    assert second["doc-00050"]["first_seen"] == first["doc-00050"]["first_seen"]
    assert second["doc-00050"]["last_seen"] > first["doc-00050"]["last_seen"]
    assert quarantine.listed(settings) == []
    assert not list(Path(settings.ingest.staging).rglob("*.parquet"))


def test_the_table_is_one_parquet_file_where_the_setting_says(corpus: Changed, tmp_path: Path) -> None:
    settings = corpus(1, 2, **{"quarantine.path": "kept"})

    ingest(settings)

    (file,) = [path for path in (tmp_path / "kept").rglob("*") if path.is_file()]
    assert file == tmp_path / "kept" / "books" / "table.parquet"
    assert pyarrow.parquet.read_table(file)["document_id"].to_pylist() == ["doc-00001", "doc-00002"]


def test_a_corpus_that_is_refused_for_its_rows_lists_them(corpus: Changed) -> None:
    settings = corpus(*range(10))

    with pytest.raises(GuardError, match="10 rows have no text"):
        ingest(settings)

    assert len(quarantine.listed(settings)) == 10


def test_a_dry_run_lists_nothing(corpus: Changed) -> None:
    settings = corpus(1)

    plan_run(settings, "dry", dry_run=True)

    assert quarantine.listed(settings) == []


def test_what_each_shard_found_is_kept_and_merged_when_the_run_is_finished(settings_with: Changed) -> None:
    settings = settings_with()
    found(settings, "run one", 0, 1, 2)
    found(settings, "run one", 1, 3)

    before = documents(settings)  # the run may be under way, or dead
    quarantine.settle(settings, "run one")
    quarantine.settle(settings, "run one")  # tried again

    assert before == documents(settings) == {"doc-1", "doc-2", "doc-3"}
    (entry,) = [entry for entry in quarantine.listed(settings) if entry["document_id"] == "doc-2"]
    assert (entry["reason"], entry["text"], entry["run_id"]) == ("reason of 2", ("2 " * 300)[:200], "run one")
    assert [path.name for path in Path(quarantine.folder(settings)).iterdir()] == ["table.parquet"]


def test_a_shard_that_is_tried_again_takes_the_place_of_its_first_try(settings_with: Changed) -> None:
    settings = settings_with()
    found(settings, "run", 0, 1, 2)

    found(settings, "run", 0, 2)
    once_more = documents(settings)
    found(settings, "run", 0).write()

    assert (once_more, documents(settings)) == ({"doc-2"}, set())


def test_a_run_that_died_is_remembered_until_another_one_is_finished(settings_with: Changed) -> None:
    settings = settings_with()
    found(settings, "dead", 0, 1, 2)
    since = quarantine.listed(settings)[0]["first_seen"]
    found(settings, "next", 0, 2, 3)

    both = documents(settings)
    quarantine.settle(settings, "next")

    assert both == {"doc-1", "doc-2", "doc-3"}
    assert {entry["document_id"]: entry["first_seen"] == since for entry in quarantine.listed(settings)} == {
        "doc-2": True,
        "doc-3": False,
    }


def test_the_table_has_a_limit(settings_with: Changed, caplog: pytest.LogCaptureFixture) -> None:
    settings = settings_with(**{"quarantine.max_rows": 3})
    found(settings, "run", 0, *range(5))
    found(settings, "run", 1, *range(10, 12))

    quarantine.settle(settings, "run")

    assert len(quarantine.listed(settings)) == 3
    assert "5 are in quarantine, quarantine.max_rows = 3 of them are listed" in caplog.text


def test_it_may_be_kept_in_an_object_store(settings_with: Changed, tmp_path: Path) -> None:
    settings = settings_with(**{"quarantine.path": f"memory:/{tmp_path}"})
    found(settings, "run", 0, 1, 2)
    found(settings, "run", 1)

    quarantine.settle(settings, "run")

    assert documents(settings) == {"doc-1", "doc-2"}
    assert staging.names(quarantine.folder(settings)) == ["table.parquet"]
    quarantine.settle(settings, "next")
    assert documents(settings) == set()


def test_collections_do_not_share_a_table(settings_with: Changed) -> None:
    found(settings_with(), "run", 0, 1)

    assert quarantine.listed(settings_with(collection="films")) == []


def test_the_command_lists_them_for_people_and_for_scripts(settings_with: Changed) -> None:
    settings = settings_with()
    found(settings, "run", 0, 1)
    given = ["quarantine", "--set=collection=books", f"--set=ingest.staging={settings.ingest.staging}"]

    shown = CliRunner().invoke(app, given, env={"COLUMNS": "200"})
    answered = json.loads(CliRunner().invoke(app, [*given, "--json"]).stdout)

    assert "doc-1" in shown.stdout
    assert "hashing: reason of 1" in shown.stdout
    assert answered == {
        "collection": "books",
        "path": quarantine.folder(settings),
        "entries": quarantine.listed(settings),
    }


def test_the_command_says_when_there_is_nothing(tmp_path: Path) -> None:
    shown = CliRunner().invoke(app, ["quarantine", f"--set=ingest.staging={tmp_path}"])

    assert shown.exit_code == 0
    assert shown.stdout == "squad: nothing is in quarantine\n"


def test_a_file_that_cannot_be_read_is_passed_over(settings_with: Changed, caplog: pytest.LogCaptureFixture) -> None:
    settings = settings_with()
    found(settings, "run one", 0, 1)
    quarantine.settle(settings, "run one")
    table = Path(quarantine.folder(settings), quarantine.TABLE)
    table.write_bytes(b"")  # power was lost
    found(settings, "run two", 0, 2)

    assert documents(settings) == {"doc-2"}
    assert f"{table} cannot be read and is passed over" in caplog.text
    quarantine.settle(settings, "run two")
    assert [entry["document_id"] for entry in quarantine.listed(settings)] == ["doc-2"]


def test_a_plan_that_is_made_again_forgets_what_its_shards_found(settings_with: Changed) -> None:
    settings = settings_with()
    found(settings, "run", 3, 1)
    found(settings, "another run", 0, 2)

    plan_run(settings, "run")

    assert documents(settings) == {"doc-2"}
