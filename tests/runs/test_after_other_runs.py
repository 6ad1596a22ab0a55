"""After other runs: what a run, or a step that is run again, does when others died, were refused, or came between."""

from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from squadron.dataflow.driver import shared_graph
from squadron.dataflow.vector_space import fingerprint, vector_space
from squadron.errors import GateError, GuardError, StaleLiveError, StoreError
from squadron.generations import catalog
from squadron.generations.live_pointer import Promotion, promote_generation, rollback
from squadron.runs.evaluate import evaluate
from squadron.runs.explain import explain
from squadron.runs.finish import finish
from squadron.runs.ingest_shard import ingest_shard
from squadron.runs.plan import plan_run
from squadron.runs.promote import promote, withdraw
from squadron.runs.results import Evaluation, Finished, Ingested
from squadron.runs.verify import verify
from squadron.runs.whole_run import ingest
from squadron.settings.schema import Settings
from squadron.staging import shards as staging
from squadron.stores.lancedb import index as lancedb_index
from tests.whole_runs import live, numbered, run, stored_rows, write_corpus

Changed = Callable[..., Settings]
UNASKED = "Nothing that anybody asked about."


class Begun:
    """A run in the form that Airflow's steps see: begun, and to be taken further step by step."""

    def __init__(self, settings: Settings, run_id: str) -> None:
        self.settings = settings
        plan = plan_run(settings, run_id)
        self.shards, self.plan = plan.shards, replace(plan, shards=[])

    def ingest(self) -> Ingested:
        return sum((ingest_shard(self.settings, self.plan, x) for x in self.shards), Ingested())

    def finish(self) -> Finished:
        return finish(self.settings, self.plan)

    def evaluate(self) -> Evaluation:
        return evaluate(self.settings, self.plan)

    def promote(self, evaluation: Evaluation) -> Promotion:
        return promote(self.settings, self.plan, evaluation)


@pytest.fixture
def corpus(tmp_path: Path) -> Callable[..., None]:
    """Writes the documents of these numbers as the corpus."""
    return lambda *numbers, **changes: write_corpus(tmp_path / "corpus.jsonl", numbered(*numbers, **changes)) and None


@pytest.fixture
def settings(settings_with: Changed, corpus: Callable[..., None], tmp_path: Path) -> Changed:
    """Settings of a corpus of forty documents, which are in the index; takes changes by dotted key."""
    corpus(*range(40))
    values = write_corpus(tmp_path / "corpus.jsonl", numbered(*range(40)))
    ingest(settings_with(**values))
    return lambda **changes: settings_with(**values | changes)


def rows(settings: Settings) -> dict[str, Any]:
    return stored_rows(settings, live(settings) or "")


@pytest.mark.parametrize("steps_done", [0, 1, 2])
def test_what_a_run_left_that_died_is_taken_back_too_when_the_next_is_refused(
    settings: Changed, corpus: Callable[..., None], steps_done: int
) -> None:
    before = rows(settings())
    corpus(*range(40), context=UNASKED)
    dead = Begun(settings(**{"ingest.shard_passages": 20}), "dead")
    ingest_shard(dead.settings, dead.plan, dead.shards[0])
    if steps_done:
        ingest_shard(dead.settings, dead.plan, dead.shards[1])
    if steps_done > 1:
        dead.finish()

    for _ in range(2):  # and the next night again
        with pytest.raises(GateError, match=r"recall@10 fell .* holds again the 40 rows from before it was changed"):
            run(settings(), "refused")

        assert rows(settings()) == before


def test_what_is_to_be_taken_back_is_kept_however_old_it_is(
    settings: Changed, corpus: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lancedb_index, "VERSIONS_KEPT", timedelta(0))
    before = rows(settings())
    corpus(*range(40), context=UNASKED)

    with pytest.raises(GateError, match=r"holds again the 40 rows"):
        run(settings(), "refused")

    assert rows(settings()) == before


def test_what_cannot_be_taken_back_is_told_beside_the_reason(
    settings: Changed, corpus: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lancedb_index, "VERSIONS_KEPT", timedelta(0))
    corpus(*range(40), context=UNASKED)
    refused = Begun(settings(), "refused")
    refused.ingest()
    refused.finish()
    evaluation = refused.evaluate()
    table = shared_graph(settings()).value("generation_table", generation=refused.plan.generation)
    table.optimize(cleanup_older_than=timedelta(0), delete_unverified=True)  # somebody else does

    with pytest.raises(GateError, match=r"recall@10 fell .* cannot be restored: .*version"):
        refused.promote(evaluation)


def test_a_step_of_an_older_run_does_nothing_once_another_has_planned(
    settings: Changed, corpus: Callable[..., None]
) -> None:
    corpus(*range(35), context="Something else.")
    older = Begun(settings(), "night 1")
    corpus(*range(40))
    newer = run(settings(), "night 2")  # the corpus is as it was: it has nothing to do
    before = rows(settings())

    for again in (older.ingest, older.finish, older.evaluate, lambda: older.promote(newer.evaluation)):
        with pytest.raises(GuardError, match=r"run 'night 2' has planned for .* since run 'night 1' did"):
            again()

    assert rows(settings()) == before


def test_a_refused_run_that_is_promoted_again_does_not_undo_a_newer_one(
    settings: Changed, corpus: Callable[..., None]
) -> None:
    corpus(*range(40), context=UNASKED)
    refused = Begun(settings(), "night 1")
    refused.ingest()
    refused.finish()
    evaluation = refused.evaluate()
    with pytest.raises(GateError):
        refused.promote(evaluation)
    corpus(*range(60))
    run(settings(), "night 2")

    with pytest.raises(GuardError, match="night 2"):
        refused.promote(evaluation)

    assert len(rows(settings())) == 60


def test_steps_of_a_generation_that_was_dropped_say_so(settings: Changed) -> None:
    candidate = Begun(settings(**{"embedding.hashing.dimension": 64}), "run")
    candidate.ingest()
    shared_graph(candidate.settings).value("dropped", generation=candidate.plan.generation)

    with pytest.raises(StoreError, match=r"is there no more: it was dropped since it was planned for"):
        candidate.finish()


def test_new_questions_are_no_fall_of_an_index_that_did_not_change(
    settings_with: Changed, corpus: Callable[..., None], tmp_path: Path
) -> None:
    settings = settings_with(**write_corpus(tmp_path / "corpus.jsonl", numbered(*range(60), question=None)))
    first = run(settings, "probes")
    corpus(*range(60), question="Which thing is like many others?")

    for night in range(2):
        asked = run(settings, f"night {night}")
        assert asked.evaluation.metrics["recall_at_10"] < 0.5 < first.evaluation.metrics["recall_at_10"]
    corpus(*range(61), question="Which thing is like many others?")
    run(settings, "one more")

    assert len(rows(settings)) == 61


def test_a_change_in_place_is_compared_with_what_was_there_on_the_same_questions(
    settings: Changed, corpus: Callable[..., None], tmp_path: Path
) -> None:
    changed = [*numbered(*range(39)), *numbered(39, question="Which thing has the colour1 and the size1?")]
    changed[0]["context"] += " And more."
    write_corpus(tmp_path / "corpus.jsonl", changed)

    found = run(settings(), "other questions").evaluation

    assert found.live_metrics["recall_at_10"] == found.metrics["recall_at_10"] < 1


def test_an_older_worse_generation_is_not_promoted_because_its_figures_stand(
    settings_with: Changed, tmp_path: Path
) -> None:
    corpus = write_corpus(tmp_path / "corpus.jsonl", numbered(*range(60)))
    poor, good = (settings_with(**corpus, **{"embedding.hashing.dimension": width}) for width in (8, 256))
    ingest(poor)
    best = ingest(good)["live"]

    with pytest.raises(GateError, match=r"recall@10 fell from 1\.0000 .* is kept for inspection"):
        ingest(poor)

    assert live(good) == best


def test_a_rollback_while_a_run_is_under_way_is_not_forgotten(settings_with: Changed, tmp_path: Path) -> None:
    corpus = write_corpus(tmp_path / "corpus.jsonl", numbered(*range(9)))
    first, second, third = (
        settings_with(
            **corpus, **{"embedding.hashing.dimension": width, "gate.max_drop": 1.0, "retention.generations": 5}
        )
        for width in (64, 128, 256)
    )
    ingest(first)
    left = ingest(second)["live"]
    under_way = Begun(third, "under way")
    under_way.ingest()
    under_way.finish()
    evaluation = under_way.evaluate()
    back = rollback(second).live

    with pytest.raises(StaleLiveError):
        under_way.promote(evaluation)
    report = ingest(second)

    assert report["live"] == back != left
    assert left in report["held"]


def test_a_change_that_a_person_rejects_is_taken_back(settings: Changed, corpus: Callable[..., None]) -> None:
    before = rows(settings())
    corpus(*range(40), context="The same name0, size0 and colour0 everywhere.")
    rejected = Begun(settings(**{"gate.max_drop": 1.0}), "rejected")
    rejected.ingest()
    rejected.finish()
    rejected.evaluate()

    said = withdraw(rejected.settings, rejected.plan)

    assert said.endswith("holds again the 40 rows from before it was changed")
    assert rows(settings()) == before
    assert staging.names(rejected.plan.folder)  # the step may be cleared
    corpus(*range(40))
    report = ingest(settings())
    assert (report["counts"]["written"], report["counts"]["deleted"]) == (0, 0)


def test_a_generation_that_a_run_died_over_as_it_began_it_hinders_nobody_and_is_collected(settings: Changed) -> None:
    other = settings(**{"embedding.hashing.dimension": 64})
    space = vector_space(other)
    begun = f"{other.collection}_{fingerprint(space)[:8]}"
    shared_graph(other).value("generation_table", generation=begun)  # and the run died
    catalog.Generations.of(other).change(begun, created_at="2026-01-01T00:00:00.000+00:00")

    assert verify(settings())["sound"]
    assert explain(settings(), "doc-00003")["state"] == "stored"
    with pytest.raises(StoreError, match="is not whole"):
        promote_generation(settings(), begun)
    third = ingest(settings(**{"embedding.hashing.dimension": 128}))

    assert begun in third["collected"]


def test_what_a_run_began_that_died_is_completed_by_the_next(settings: Changed) -> None:
    other = settings(**{"embedding.hashing.dimension": 64})
    begun = f"{other.collection}_{fingerprint(vector_space(other))[:8]}"
    shared_graph(other).value("generation_table", generation=begun)  # and the run died

    report = ingest(other)

    assert report["live"] == begun
    about = {row["generation"]: row for row in catalog.generations(other)}[begun]
    assert {"settings", "vector_space", "dimension", "probes"} <= about.keys()


def test_a_renamed_metadata_column_is_stored(settings_with: Changed, tmp_path: Path) -> None:
    def named(column: str) -> Settings:
        listed = [row | {column: "en" if number % 2 else "de"} for number, row in enumerate(numbered(*range(10)))]
        corpus = write_corpus(tmp_path / "corpus.jsonl", listed)
        return settings_with(**corpus, **{"source.columns.metadata": (column,), "cache.path": "cache"})

    ingest(named("lang"))
    counts = ingest(named("language"))["counts"]

    assert (counts["embedded"], counts["cached"], counts["written"], counts["deleted"]) == (0, 10, 10, 10)
    assert {row["language"] for row in rows(named("language")).values()} == {"en", "de"}


def test_a_document_of_several_questions_is_asked_them_all_though_one_column_is_its_id_and_theirs(
    settings_with: Changed, tmp_path: Path
) -> None:
    listed = [row | {"question": f"{row['question']} {n}"} for row in numbered(*range(10)) for n in range(3)]

    report = ingest(settings_with(**write_corpus(tmp_path / "corpus.jsonl", listed)))

    assert report["questions"] == 30


def test_what_a_person_made_live_is_not_taken_back_to_what_a_dead_run_had_left(
    settings_with: Changed, corpus: Callable[..., None], tmp_path: Path
) -> None:
    values = write_corpus(tmp_path / "corpus.jsonl", numbered(*range(40), context=UNASKED))
    strict = settings_with(**values, **{"gate.min_recall_at_10": 0.99})
    Begun(strict, "dead")  # the generation is there, and empty
    with pytest.raises(GateError):
        run(strict, "refused")
    (generation,) = [each["generation"] for each in catalog.generations(strict)]
    promote_generation(strict, generation)
    before = rows(strict)
    assert len(before) == 40

    corpus(*range(41), context=UNASKED)
    with pytest.raises(GateError, match="holds again the 40 rows from before it was changed"):
        run(strict, "refused again")

    assert rows(strict) == before


def test_what_was_taken_back_is_described_as_it_is(settings: Changed, corpus: Callable[..., None]) -> None:
    corpus(*range(100), context=UNASKED)
    with pytest.raises(GateError, match="holds again the 40 rows"):
        run(settings(), "refused")

    (about,) = catalog.generations(settings())
    assert (about["rows"], about["documents"]) == (40, 40)

    corpus(*range(40))
    beside = run(settings(**{"passages.template": "plain_v1"}), "beside")  # the guard compares with these documents
    assert beside.plan.documents == 40


def test_the_steps_of_a_run_that_was_taken_back_do_nothing(settings: Changed, corpus: Callable[..., None]) -> None:
    corpus(*range(40), context=UNASKED)
    rejected = Begun(settings(), "rejected")
    rejected.ingest()
    rejected.finish()
    evaluation = rejected.evaluate()
    withdraw(rejected.settings, rejected.plan)
    before = rows(settings())

    for again in (rejected.ingest, rejected.finish, rejected.evaluate, lambda: rejected.promote(evaluation)):
        with pytest.raises(GuardError, match=r"what run 'rejected' had changed in .* was taken back"):
            again()

    assert rows(settings()) == before


def test_a_version_that_is_gone_hinders_no_later_run(settings: Changed, corpus: Callable[..., None]) -> None:
    generation = live(settings()) or ""
    graph = shared_graph(settings())
    catalog.Generations(graph).change(
        generation, base_version=777
    )  # of a run that died; somebody has removed old versions since
    corpus(*range(45), question="Which one is it?")

    promoted = run(settings(**{"gate.max_drop": 0}), "next")

    assert promoted.evaluation.live_metrics == {}
    assert len(rows(settings())) == 45
    assert "base_version" not in catalog.generations(settings())[0]


def test_what_a_run_has_spent_is_remembered_when_its_plan_is_made_again(
    settings: Changed, corpus: Callable[..., None], tmp_path: Path
) -> None:
    corpus(*range(50))
    spent = Path(Begun(settings(), "run").plan.folder, staging.SPENT)
    spent.mkdir()
    (spent / "shard-00000.json").touch()
    known = ["shard-00000.json"]

    write_corpus(tmp_path / "corpus.jsonl", [*numbered(*range(50)), *numbered(7, context="Another version.")])
    again = Begun(settings(**{"guard.max_quarantined_fraction": 0.5}), "run")  # reads the corpus twice
    assert sorted(path.name for path in spent.iterdir()) == known
    corpus(*range(3))
    with pytest.raises(GuardError, match="lacks"):
        Begun(settings(), "run")

    assert sorted(path.name for path in spent.iterdir()) == known
    assert not [path for path in Path(again.plan.folder).iterdir() if path != spent]
