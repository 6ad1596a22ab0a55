"""Live sync: what readers see is in step with the corpus after each run, whatever generation the run was about."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from squadron.errors import GateError, StoreError
from squadron.generations.catalog import Generations
from squadron.generations.live_pointer import promote_generation, rollback
from squadron.runs.evaluate import evaluate
from squadron.runs.finish import finish
from squadron.runs.ingest_shard import ingest_shard
from squadron.runs.live_sync import promote_in_step, withdraw_in_step
from squadron.runs.plan import plan_run
from squadron.runs.verify import verify
from squadron.runs.whole_run import ingest
from squadron.settings.schema import Settings
from tests.whole_runs import live, numbered, stored_rows, write_corpus
from tests.wire.openai_server import OpenAIServer

Changed = Callable[..., Settings]
WIDER = {"embedding.hashing.dimension": 128}


@pytest.fixture
def settings(settings_with: Changed, tmp_path: Path) -> Changed:
    """Settings of a corpus of forty documents."""
    corpus = write_corpus(tmp_path / "corpus.jsonl", numbered(*range(40)))
    return lambda **changes: settings_with(**{**corpus, "gate.max_drop": 1.0, **changes})


@pytest.fixture
def corpus(tmp_path: Path) -> Callable[..., None]:
    """Writes the documents of these numbers as the corpus."""
    return lambda *numbers, **changes: write_corpus(tmp_path / "corpus.jsonl", numbered(*numbers, **changes)) and None


def documents(settings: Settings, generation: str | None) -> set[str]:
    return {row["document_id"] for row in stored_rows(settings, generation or "").values()}


def ids(*numbers: int) -> set[str]:
    return {f"doc-{n:05d}" for n in numbers}


def test_after_a_rollback_every_night_leaves_what_readers_see_in_step(
    settings: Changed, corpus: Callable[..., None]
) -> None:
    first = ingest(settings())["generation"]
    ingest(settings(**WIDER))
    rollback(settings(**WIDER))

    for night in range(1, 4):
        corpus(*range(3 * night, 40 + 3 * night))
        report = ingest(settings(**WIDER))

        assert (report["live"], report["promoted"]) == (first, False)
        assert report["live_sync"] | {"seconds": 0} == {"generation": first, "written": 3, "deleted": 3, "seconds": 0}
        assert documents(settings(), first) == ids(*range(3 * night, 40 + 3 * night))
        assert verify(settings(**WIDER), vectors=0)["sound"]


def test_a_candidate_that_the_gate_refuses_leaves_readers_in_step(
    settings: Changed, corpus: Callable[..., None]
) -> None:
    ingest(settings())
    corpus(*range(2, 42))

    with pytest.raises(GateError, match="kept for inspection"):
        ingest(settings(**{"embedding.hashing.dimension": 8, "gate.min_recall_at_10": 1.0}))

    assert documents(settings(), live(settings())) == ids(*range(2, 42))


def test_a_candidate_that_a_person_rejects_leaves_readers_in_step(
    settings: Changed, corpus: Callable[..., None]
) -> None:
    ingest(settings())
    corpus(*range(2, 42))
    plan = plan_run(settings(**WIDER), "night")
    for shard in plan.shards:
        ingest_shard(settings(**WIDER), plan, shard)
    finish(settings(**WIDER), plan)

    assert "kept for inspection" in withdraw_in_step(settings(**WIDER), plan)

    assert documents(settings(), live(settings())) == ids(*range(2, 42))


def test_a_live_generation_whose_service_is_gone_turns_the_run_red_and_says_how_far_behind_it_is(
    openai: OpenAIServer, settings: Changed, corpus: Callable[..., None]
) -> None:
    address = {"embedding.openai.base_url": f"{openai.url}/v1"}
    served = {"embedding.service": "openai", **address}
    given_up = address | {"embedding.openai.deadline_seconds": 0.1}
    first = ingest(settings(**served))["generation"]
    ingest(settings())
    rollback(settings())
    corpus(*range(3, 45))
    openai.faults.add("embeddings", times=1000, status=503)

    with pytest.raises(StoreError, match=r"could not be brought in step.*lacks 5 documents.*holds 3 that left it"):
        ingest(settings(**given_up))

    assert live(settings()) == first


def test_what_leaves_the_corpus_leaves_the_generations_that_are_kept_for_a_rollback(
    settings: Changed, corpus: Callable[..., None]
) -> None:
    first = ingest(settings())["generation"]
    ingest(settings(**WIDER))
    corpus(*range(2, 40))

    ingest(settings(**WIDER))

    assert documents(settings(), first) == ids(*range(2, 40))
    assert Generations.of(settings())[first].rows == 38
    assert rollback(settings(**WIDER)).live == first


def test_a_held_generation_outlives_the_sync_of_the_live_one(settings: Changed, corpus: Callable[..., None]) -> None:
    widest, keep_all = {"embedding.hashing.dimension": 512}, {"retention.generations": 3}
    first = ingest(settings(**keep_all))["generation"]
    ingest(settings(**keep_all, **WIDER))
    third = ingest(settings(**keep_all, **widest))["generation"]
    rollback(settings(**keep_all, **widest))
    rollback(settings(**keep_all, **widest))
    corpus(*range(1, 41))

    report = ingest(settings(**widest))  # by now two generations are to be kept
    again = ingest(settings(**widest))

    assert (report["generation"], report["live"], again["counts"]["unchanged"]) == (third, first, 40)
    assert documents(settings(), first) == ids(*range(1, 41))
    assert documents(settings(**widest), third) == ids(*range(1, 41))


def test_a_kept_generation_of_another_corpus_is_not_emptied(
    settings: Changed, corpus: Callable[..., None], caplog: pytest.LogCaptureFixture
) -> None:
    first = ingest(settings())["generation"]
    corpus(*range(100, 140))

    second = ingest(settings(**WIDER))["generation"]
    ingest(settings(**WIDER))

    assert documents(settings(), first) == ids(*range(40))
    assert caplog.text.count(f"{first}, which is kept, holds 40 documents that left the corpus, 100.0 %") == 2
    assert rollback(settings(**WIDER)).live == first != second


def test_a_generation_that_is_promoted_by_hand_again_is_no_longer_accompanied(settings: Changed) -> None:
    ingest(settings())
    second = ingest(settings(**WIDER))["generation"]
    rollback(settings(**WIDER))
    promote_generation(settings(**WIDER), second)

    report = ingest(settings(**WIDER))

    assert (report["live"], report["live_sync"]) == (second, None)


def test_the_step_of_the_dag_brings_the_live_generation_in_step_as_the_command_line_does(
    settings: Changed, corpus: Callable[..., None]
) -> None:
    first = ingest(settings())["generation"]
    ingest(settings(**WIDER))
    rollback(settings(**WIDER))
    corpus(*range(1, 41))
    plan = plan_run(settings(**WIDER), "scheduled__2026")
    for shard in plan.shards:
        ingest_shard(settings(**WIDER), plan, shard)
    plan = replace(plan, shards=[])
    finish(settings(**WIDER), plan)

    promotion = promote_in_step(settings(**WIDER), plan, evaluate(settings(**WIDER), plan))

    assert promotion.live_sync is not None
    assert documents(settings(), first) == ids(*range(1, 41))
