"""The budget of a run that is under way: added up over shards and tries, told at its shares, kept."""

import json
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from squadron.errors import GuardError
from squadron.generations.catalog import generations
from squadron.runs.budget import Alert, Spending, Usage
from squadron.runs.ingest_shard import ingest_shard
from squadron.runs.plan import plan_run
from squadron.runs.results import Ingested, Plan
from squadron.runs.whole_run import ingest
from squadron.settings.schema import Settings
from squadron.staging import shards as staging
from squadron.staging.shards import Shard

Changed = Callable[..., Settings]


@pytest.fixture
def planned(settings_with: Changed) -> Callable[..., tuple[Settings, Plan]]:
    """Settings with some changed, and the plan of a run with them."""

    def made(**changes: Any) -> tuple[Settings, Plan]:
        settings = settings_with(**{"source.limit": 20, "ingest.shard_passages": 10} | changes)
        return settings, plan_run(settings, "run")

    return made


def spending(
    settings: Settings, plan: Plan, number: int, alert: Alert | None = None, counters: Usage | None = None
) -> Spending:
    """Of a shard whose service says nothing about what it bills, unless `counters` do."""
    shard = Shard("", number, 0, 0)
    return Spending(settings, plan, shard, lambda: Usage() if counters is None else counters.copy(), alert)


def test_the_shards_of_a_run_share_one_budget(planned: Any) -> None:
    settings, plan = planned(**{"budget.max_tokens": 10_000})
    one, other = spending(settings, plan, 0), spending(settings, plan, 1)
    one.note(6_000)
    one.check()

    other.note(6_000)

    with pytest.raises(GuardError, match=r"spent 12,000 tokens, budget\.max_tokens allows 10,000 tokens: it was stop"):
        other.check()
    with pytest.raises(GuardError):  # a third, on whatever worker, sends nothing
        spending(settings, plan, 2).check()
    with pytest.raises(GuardError):
        one.note(1)
        one.check()


def test_a_shard_that_is_tried_again_goes_on_from_what_it_has_spent(planned: Any) -> None:
    settings, plan = planned(**{"budget.max_tokens": 10_000})
    spending(settings, plan, 0).note(6_000)

    again = spending(settings, plan, 0)
    again.note(4_000)

    again.check()  # neither lost nor counted twice
    assert again.usage()["counted", ""] == 10_000
    again.note(1)
    with pytest.raises(GuardError, match="spent 10,001 tokens"):
        again.check()


def test_what_the_service_bills_counts_more_than_what_was_estimated(planned: Any) -> None:
    settings, plan = planned(**{"budget.max_tokens": 10_000})
    counters = Usage({("billed", ""): 500, ("answered", "host"): 5})  # of shards before, in the same process
    shard = spending(settings, plan, 0, counters=counters)

    counters.update({("billed", ""): 9_000, ("answered", "host"): 2})
    shard.note(20_000)

    shard.check()
    assert (shard.usage()["billed", ""], shard.usage()["answered", "host"]) == (9_000, 2)


def test_each_share_is_told_once_per_run_whichever_shard_reaches_it(
    planned: Any, caplog: pytest.LogCaptureFixture
) -> None:
    settings, plan = planned(**{"budget.max_tokens": 10_000})
    told: list[dict[str, Any]] = []
    one, other = (spending(settings, plan, number, told.append) for number in range(2))

    for tokens in (2_000, 2_900):
        one.note(tokens)
        other.note(tokens)
    spending(settings, plan, 0, told.append).note(200)  # tried again
    other.note(500)

    assert [(alert["fraction"], alert["spent"]) for alert in told] == [(0.5, 6_900), (0.8, 9_800), (1.0, 10_000)]
    facts = {"collection": "books", "run_id": "run", "limit": "budget.max_tokens", "allowed": 10_000}
    assert facts.items() <= told[0].items()
    assert json.dumps(told)
    assert caplog.text.count("of budget.max_tokens is spent") == 3


def test_of_many_that_ask_at_once_one_is_told_to_alert(tmp_path: Path) -> None:
    with ThreadPoolExecutor(16) as pool:
        answers = list(pool.map(lambda _: staging.claimed(f"{tmp_path}/spent/50"), range(100)))

    assert answers.count(True) == 1


def test_shards_meet_in_an_object_store(planned: Any, tmp_path: Path) -> None:
    settings, plan = planned(**{"budget.max_tokens": 10_000})
    told: list[dict[str, Any]] = []
    plan = replace(plan, folder=f"memory:/{tmp_path}")
    one, other = (spending(settings, plan, number, told.append) for number in range(2))

    one.note(6_000)
    other.note(6_000)

    with pytest.raises(GuardError, match="spent 12,000 tokens"):
        other.check()
    assert [alert["fraction"] for alert in told] == [0.5, 0.8, 1.0]


def test_both_limits_are_told_of_and_kept(planned: Any, caplog: pytest.LogCaptureFixture) -> None:
    settings, plan = planned(**{"budget.max_tokens": 10_000, "budget.max_cost_usd": 0.001})
    priced = settings.model_copy(
        update={"embedding": settings.embedding.model_copy(update={"service": "openai"})}  # 0.02 USD a million
    )
    shard = spending(priced, plan, 0)

    shard.note(9_000)
    shard.check()

    assert "80 % of budget.max_tokens is spent: 9,000 tokens of 10,000 tokens" in caplog.text
    assert "max_cost_usd" not in caplog.text
    cheaper = priced.model_copy(update={"budget": priced.budget.model_copy(update={"max_cost_usd": 0.0001})})
    with pytest.raises(GuardError, match=r"spent 0\.0002 USD, budget\.max_cost_usd allows 0\.0001 USD"):
        spending(cheaper, plan, 1).check()


def test_a_run_that_bills_as_estimated_spends_all_of_its_budget_and_ends_well(
    settings_with: Changed, caplog: pytest.LogCaptureFixture
) -> None:
    tokens = plan_run(settings_with(), "dry", dry_run=True).estimated_tokens
    settings = settings_with(
        **{"budget.max_tokens": tokens, "ingest.batch_passages": 10, "ingest.shard_passages": 40, "cache.path": "cache"}
    )

    report = ingest(settings)

    assert report["counts"]["embedded"] == report["counts"]["passages"]
    assert [line for line in caplog.messages if "budget.max_tokens is spent" in line][-1].endswith(
        f"100 % of budget.max_tokens is spent: {tokens:,} tokens of {tokens:,} tokens"
    )
    assert (report["billed_tokens"], report["billed_cost"], report["endpoints"]) == (0, 0, {})


def test_texts_from_the_cache_are_not_counted(settings_with: Changed) -> None:
    changes = {"cache.path": "cache", "source.limit": 30}
    ingest(settings_with(**changes))

    ingest(settings_with(**changes, **{"store.lancedb.uri": "another", "budget.max_tokens": 0}))

    assert [row["live"] for row in generations(settings_with(**{"store.lancedb.uri": "another"}))] == [True]


def test_what_shards_did_is_added_up() -> None:
    one = Ingested(embedded=1, billed_tokens=10, billed_cost=0.5, endpoints={"a": {"answered": 2, "failed": 1}})
    other = Ingested(
        embedded=2,
        billed_tokens=5,
        billed_cost=0.25,
        endpoints={"a": {"answered": 1, "failed": 0}, "b": {"answered": 3, "failed": 0}},
    )

    both = one + other

    assert (both.embedded, both.billed_tokens, both.billed_cost) == (3, 15, 0.75)
    assert both.endpoints == {"a": {"answered": 3, "failed": 1}, "b": {"answered": 3, "failed": 0}}
    assert (both + Ingested(billed_cost=None)).billed_cost is None


def test_a_shard_begins_nothing_when_the_budget_is_spent(planned: Any) -> None:
    settings, plan = planned(**{"budget.max_tokens": 100_000})
    spending(settings, plan, 7).note(100_001)

    with pytest.raises(GuardError, match="was stopped"):
        ingest_shard(settings, plan, plan.shards[0])


def test_a_plan_that_is_made_again_keeps_what_the_run_has_spent(planned: Any) -> None:
    settings, plan = planned(**{"budget.max_tokens": 10_000})
    spending(settings, plan, 0).note(6_000)

    settings, again = planned(**{"budget.max_tokens": 10_000})

    assert again.folder == plan.folder
    assert spending(settings, again, 0).usage()["counted", ""] == 6_000
    with pytest.raises(GuardError, match="spent 12,000 tokens"):
        other = spending(settings, again, 1)
        other.note(6_000)
        other.check()
