"""The careless world: shards that did nothing, runs that wake late, prompts that change, texts that are refused."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import lancedb
import pytest

from squadron.errors import GateError, GuardError, StoreError
from squadron.generations.catalog import Generations
from squadron.generations.measuring import measure
from squadron.runs.finish import finish
from squadron.runs.ingest_shard import ingest_shard
from squadron.runs.plan import plan_run
from squadron.runs.quality_gate import pass_gate
from squadron.runs.verify import verify
from squadron.runs.whole_run import ingest
from squadron.settings.schema import Settings
from tests.whole_runs import live, numbered, run, stored_rows, write_corpus
from tests.wire.openai_server import OpenAIServer

Changed = Callable[..., Settings]


@pytest.fixture
def settings(settings_with: Changed, tmp_path: Path) -> Changed:
    """Settings of a corpus of forty documents, in shards of five."""
    corpus = write_corpus(tmp_path / "corpus.jsonl", numbered(*range(40)))
    return lambda **changes: settings_with(**{**corpus, "ingest.shard_passages": 5, **changes})


def served(server: OpenAIServer, **changes: Any) -> dict[str, Any]:
    """The same, embedded by a server, in batches of five."""
    return {
        "embedding.service": "openai",
        "embedding.openai.base_url": f"{server.url}/v1",
        "ingest.shard_passages": 1000,
        "ingest.batch_passages": 5,
        **changes,
    }


def documents(settings: Settings) -> set[str]:
    return {row["document_id"] for row in stored_rows(settings, live(settings) or "").values()}


def test_a_shard_that_did_nothing_costs_no_old_version(settings: Changed, tmp_path: Path) -> None:
    ingest(settings())
    before = stored_rows(settings(), live(settings()) or "")
    changed = [row | {"context": row["context"] + " Mended."} for row in numbered(*range(10))]
    write_corpus(tmp_path / "corpus.jsonl", [*changed, *numbered(*range(10, 40))])
    plan = plan_run(settings(), "night")
    ingest_shard(settings(), plan, plan.shards[0])  # an operator marked the other one as done

    with pytest.raises(StoreError, match=r"lacks 5 of the 10 planned passages.*nothing was deleted.*marked as done"):
        finish(settings(), plan)

    after = stored_rows(settings(), live(settings()) or "")
    assert before.items() <= after.items()
    assert documents(settings()) == {f"doc-{n:05d}" for n in range(40)}


def test_rows_that_nobody_planned_for_are_told_before_anything_is_deleted(settings: Changed, tmp_path: Path) -> None:
    ingest(settings())
    generation = live(settings()) or ""
    write_corpus(tmp_path / "corpus.jsonl", numbered(*range(39)))
    plan = plan_run(settings(), "night")
    rows = stored_rows(settings(), generation)
    stranger = next(iter(rows)).replace("0", "1", 1)
    table = lancedb.connect(settings().store.lancedb.uri).open_table(generation)
    row = table.search().limit(1).to_arrow()
    table.add(row.set_column(0, "id", [[stranger]]).select(table.schema.names))

    with pytest.raises(StoreError, match="holds 40 rows, the plan wants 39: nothing was deleted"):
        finish(settings(), plan)

    assert stored_rows(settings(), generation).keys() >= rows.keys()


def test_a_finish_that_was_killed_while_it_deleted_goes_on(settings: Changed, tmp_path: Path) -> None:
    ingest(settings())
    write_corpus(tmp_path / "corpus.jsonl", numbered(*range(35)))
    plan = plan_run(settings(), "night")
    assert finish(settings(), plan).deleted == 5

    assert finish(settings(), plan).rows == 35


def test_a_shard_that_wakes_after_a_newer_plan_writes_nothing(
    openai: OpenAIServer, settings: Changed, tmp_path: Path
) -> None:
    nights = settings(**served(openai))
    run(nights, "night 0")
    write_corpus(tmp_path / "corpus.jsonl", numbered(*range(50)))
    late = plan_run(nights, "night 1")

    def withdraw_and_run_again() -> None:
        write_corpus(tmp_path / "corpus.jsonl", numbered(*range(40)))
        run(nights, "night 2")

    openai.faults.add("embeddings", times=1, meanwhile=withdraw_and_run_again)

    with pytest.raises(GuardError, match=r"'night 2' has planned for .* since run 'night 1' did"):
        ingest_shard(nights, late, late.shards[0])

    assert documents(nights) == {f"doc-{n:05d}" for n in range(40)}
    assert verify(nights, vectors=0)["sound"]


def test_another_query_prompt_is_measured_anew_and_not_with_vectors_of_the_old_one(
    openai: OpenAIServer, settings: Changed
) -> None:
    cached = served(openai, **{"cache.path": "cache"})
    first = ingest(settings(**cached))
    prompted = settings(**cached | {"embedding.openai.query_prompt": "size1 colour1 name1 " * 20})

    second = ingest(prompted)

    assert not second["reused"]
    assert second["generation"] == first["generation"]
    assert second["metrics"] == measure(prompted)["metrics"] != first["metrics"]


def test_what_came_from_the_cache_counts_as_cached_when_another_text_of_the_batch_is_refused(
    openai: OpenAIServer, settings: Changed
) -> None:
    cached = served(openai, **{"cache.path": "cache", "ingest.batch_passages": 100})
    openai.refused.add("Number 7\nThe thing called name7 has the size7 and the colour7. It is one of many.")
    first = ingest(settings(**cached))["counts"]

    second = ingest(settings(**cached | {"store.lancedb.uri": "elsewhere"}))["counts"]

    assert (first["embedded"], first["cached"], first["quarantined"]) == (39, 0, 1)
    assert (second["embedded"], second["cached"], second["quarantined"]) == (0, 39, 1)


def test_the_gate_lets_a_drop_of_exactly_what_is_allowed_pass_and_no_larger_one(settings: Changed) -> None:
    strict = settings(**{"gate.max_drop": 0.05, "gate.min_recall_at_10": 0.15})
    done = run(strict)
    catalog = Generations.of(strict)

    def passes(before: int, recall: int) -> bool:
        figures = {"metrics": {"recall_at_10": recall / 1000}, "live_metrics": {"recall_at_10": before / 1000}}
        try:
            pass_gate(strict, catalog, done.plan, replace(done.evaluation, **figures))
        except GateError:
            return False
        return True

    assert all(passes(before, before - 50) for before in range(200, 1001, 3))
    assert not any(passes(before, before - 51) for before in range(201, 1001, 40))
    assert not passes(199, 149)
