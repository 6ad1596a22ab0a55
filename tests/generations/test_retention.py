"""Retention: what is kept, however old it is."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from squadron.errors import GateError
from squadron.generations.catalog import Generations
from squadron.runs.evaluate import evaluate
from squadron.runs.finish import finish
from squadron.runs.ingest_shard import ingest_shard
from squadron.runs.plan import plan_run
from squadron.runs.promote import promote
from squadron.runs.whole_run import ingest
from squadron.settings.schema import Settings
from tests.whole_runs import numbered, write_corpus

Changed = Callable[..., Settings]


@pytest.fixture
def wide(settings_with: Changed, tmp_path: Path) -> Changed:
    """Settings of forty documents, whose vectors are so wide."""
    corpus = write_corpus(tmp_path / "corpus.jsonl", numbered(*range(40)))

    def settings(dimension: int, **changes: object) -> Settings:
        return settings_with(**{**corpus, "embedding.hashing.dimension": dimension, "gate.max_drop": 1.0, **changes})

    return settings


def age(settings: Settings, **days: int) -> None:
    """Let generations have begun so many days ago."""
    catalog = Generations.of(settings)
    for name, number in days.items():
        begun = datetime.now(UTC) - timedelta(days=number)
        catalog.change(name, created_at=begun.isoformat(timespec="milliseconds"))


def test_a_candidate_that_waits_for_approval_outlives_the_runs_of_others(wide: Changed, tmp_path: Path) -> None:
    first, second = (ingest(wide(dimension))["generation"] for dimension in (64, 128))
    waiting = wide(256, **{"gate.approval": True})
    plan = plan_run(waiting, "waits for approval")
    for shard in plan.shards:
        ingest_shard(waiting, plan, shard)
    finish(waiting, plan)
    evaluation = evaluate(waiting, plan)
    age(waiting, **{first: 30, second: 7, plan.generation: 2})
    write_corpus(tmp_path / "corpus.jsonl", numbered(*range(41)))

    ingest(wide(128))

    assert plan.generation in Generations.of(waiting)
    assert promote(waiting, plan, evaluation).live == plan.generation
    assert not Generations.of(waiting)[plan.generation].awaiting_approval


def test_the_last_candidate_that_was_refused_is_kept_for_inspection_and_earlier_ones_are_not(
    wide: Changed, tmp_path: Path
) -> None:
    first, second = (ingest(wide(dimension))["generation"] for dimension in (64, 128))
    for dimension in (8, 9):
        with pytest.raises(GateError, match="kept for inspection"):
            ingest(wide(dimension, **{"gate.min_recall_at_10": 1.0}))
    earlier, last = [name for name in Generations.of(wide(8)) if name not in (first, second)]
    if (Generations.of(wide(8))[earlier].refused_at or "") > (Generations.of(wide(8))[last].refused_at or ""):
        earlier, last = last, earlier
    age(wide(8), **{first: 30, second: 7, earlier: 3, last: 2})
    write_corpus(tmp_path / "corpus.jsonl", numbered(*range(41)))

    report = ingest(wide(128))

    assert report["collected"] == [earlier]
    assert set(Generations.of(wide(8))) == {first, second, last}
