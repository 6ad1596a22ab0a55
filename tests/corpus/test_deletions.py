"""What leaves an index because of how the corpus is read: a limit, other titles, rows that are no documents."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from squadron.corpus import quarantine
from squadron.errors import GuardError
from squadron.runs.plan import plan_run
from squadron.settings.schema import Settings
from tests.sources.corpora import write_parquet
from tests.whole_runs import live, numbered, run, stored_rows, write_corpus

Changed = Callable[..., Settings]
WITHOUT_IDS = {"source.columns.document_id": None}


@pytest.fixture
def reading(settings_with: Changed, tmp_path: Path) -> Callable[..., Settings]:
    """Settings of a corpus of these rows; takes changes by dotted key."""

    def written(rows: list[dict[str, Any]], **changes: Any) -> Settings:
        return settings_with(**write_corpus(tmp_path / "corpus.jsonl", rows) | changes)

    return written


def titles(settings: Settings) -> set[str]:
    return {row["title"] for row in stored_rows(settings, live(settings) or "").values()}


def test_what_lies_beyond_a_limit_is_deleted_with_a_line_and_with_the_guards_leave(
    reading: Changed, caplog: pytest.LogCaptureFixture
) -> None:
    rows = numbered(*range(40))
    run(reading(rows))

    with pytest.raises(GuardError, match=r"the corpus, as far as source\.limit = 20 lets it be read, lacks 50\.0%"):
        plan_run(reading(rows, **{"source.limit": 20}), "refused")
    held = titles(reading(rows))
    limited = run(reading(rows, **{"source.limit": 35}), "limited")

    assert len(held) == 40
    assert limited.plan.deleted == 5
    assert "source.limit = 35: 5 documents of the index lie beyond it, or have left the corpus, and are deleted" in (
        caplog.messages
    )


def test_a_limit_that_leaves_nothing_out_is_not_worth_a_line(
    reading: Changed, caplog: pytest.LogCaptureFixture
) -> None:
    rows = numbered(*range(20))
    run(reading(rows, **{"source.limit": 10}))
    run(reading(rows, **{"source.limit": 20}))

    assert "lie beyond it" not in caplog.text


@pytest.mark.parametrize("change", ["titles", "ends of lines"])
@pytest.mark.parametrize("long", [False, True], ids=["one passage", "several passages"])
def test_without_ids_the_same_texts_under_other_titles_are_a_change_and_no_loss(
    reading: Changed, change: str, long: bool
) -> None:
    body = "Sentence {}: one of many about that thing.\r\n" * 60 if long else "The size of thing {}.\r\nThat is all."
    changes = WITHOUT_IDS | {"passages.max_tokens": 128}
    rows = [row | {"context": body.replace("{}", f"{n}")} for n, row in enumerate(numbered(*range(20)))]
    first = run(reading(rows, **changes))
    if change == "titles":
        changed = [row | {"title": f"New {row['title']}"} for row in rows]
    else:
        changed = [row | {"context": row["context"].replace("\r\n", "\n")} for row in rows]

    second = run(reading(changed, **changes))

    assert (first.plan.passages > 20) is long
    assert second.plan.documents == 20
    assert second.plan.deleted == first.plan.passages
    assert titles(reading(changed, **changes)) == {row["title"] for row in changed}


def test_without_ids_texts_that_are_gone_are_a_loss_though_others_have_new_titles(reading: Changed) -> None:
    rows = numbered(*range(40))
    run(reading(rows, **WITHOUT_IDS))
    kept = [row | {"title": f"New {row['title']}"} for row in rows[:25]]
    others = [row | {"context": f"{row['context']} And more."} for row in rows[25:]]

    with pytest.raises(GuardError, match=r"lacks 37\.5% of the documents"):
        plan_run(reading([*kept, *others], **WITHOUT_IDS), "run")

    assert titles(reading(rows, **WITHOUT_IDS)) == {row["title"] for row in rows}


def test_one_new_title_does_not_stand_for_many_documents_of_one_text(reading: Changed) -> None:
    same = [row | {"context": "A letter without a word of its own."} for row in numbered(*range(20))]
    run(reading([*same, *numbered(*range(20, 40))], **WITHOUT_IDS))

    with pytest.raises(GuardError, match=r"lacks 47\.5% of the documents"):
        plan_run(reading([same[0] | {"title": "New"}, *numbered(*range(20, 40))], **WITHOUT_IDS), "run")


def test_many_new_titles_do_not_stand_for_one_document(reading: Changed) -> None:
    run(reading(numbered(*range(40)), **WITHOUT_IDS))
    copies = [row | {"context": numbered(0)[0]["context"]} for row in numbered(*range(100, 120))]

    with pytest.raises(GuardError, match=r"lacks 47\.5% of the documents"):
        plan_run(reading([*copies, *numbered(*range(20, 40))], **WITHOUT_IDS), "run")


def test_with_ids_the_same_texts_under_other_ids_are_a_loss(reading: Changed) -> None:
    run(reading(numbered(*range(20))))

    with pytest.raises(GuardError, match=r"lacks 100\.0% of the documents"):
        plan_run(reading([row | {"id": f"new {row['id']}"} for row in numbered(*range(20))]), "run")


@pytest.mark.parametrize("changes", [WITHOUT_IDS, {}], ids=["no column of ids", "ids"])
@pytest.mark.parametrize("ending", ["jsonl", "parquet"])
def test_rows_with_neither_a_text_nor_an_id_are_no_documents(
    reading: Changed, changes: dict[str, Any], ending: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    empty = [{"id": "", "context": ""}, {"id": None, "context": None, "title": "A heading"}]
    rows = [*numbered(*range(20)), *empty * 10]
    settings = reading(rows, **changes)
    if ending == "parquet":
        settings = reading(rows, **changes | {"source.path": str(write_parquet(tmp_path / "c.parquet", rows))})

    done = run(settings)

    assert (done.plan.documents, done.plan.quarantined, done.plan.held_back) == (20, 0, 0)
    assert quarantine.listed(settings) == []
    assert "20 rows of the corpus have neither a text nor an id, and are no documents" in caplog.messages
