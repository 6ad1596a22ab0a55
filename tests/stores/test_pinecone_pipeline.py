"""The whole pipeline into Pinecone: a server of ours on loopback, the sample corpus, hashed words."""

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from squadron.generations.catalog import generations
from squadron.generations.live_pointer import Promotion
from squadron.generations.search import search
from squadron.runs.evaluate import evaluate
from squadron.runs.finish import finish
from squadron.runs.ingest_shard import ingest_shard
from squadron.runs.plan import plan_run
from squadron.runs.promote import promote
from squadron.runs.results import Finished, Plan
from squadron.settings.schema import Settings
from tests.wire.pinecone_server import PineconeServer

KEY = "pcsk_pipeline_0123456789"


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[PineconeServer]:
    monkeypatch.setenv("PINECONE_API_KEY", KEY)
    with PineconeServer(KEY, lag_reads=1) as server:
        monkeypatch.setenv("PINECONE_CONTROLLER_HOST", server.url)
        yield server


def run(settings: Settings, run_id: str) -> tuple[Plan, Finished, Promotion]:
    plan = plan_run(settings, run_id)
    for shard in plan.shards:
        ingest_shard(settings, plan, shard)
    finished = finish(settings, plan)
    return plan, finished, promote(settings, plan, evaluate(settings, plan))


def test_a_second_run_embeds_and_writes_nothing(server: PineconeServer, settings_with: Callable[..., Settings]) -> None:
    settings = settings_with(**{"store.name": "pinecone", "store.pinecone.host": server.url})
    plan, finished, promotion = run(settings, "first")
    rows = server.root.namespaces[plan.generation]
    assert finished.rows == plan.to_embed == rows.upserted == plan.passages > 100
    assert promotion.live == plan.generation

    again, finished, promotion = run(settings, "second")
    assert (again.to_embed, again.deleted, again.shards) == (0, 0, [])
    assert (finished.rows, rows.upserted) == (plan.passages, plan.passages)
    assert (promotion.live, promotion.promoted) == (plan.generation, False)


@pytest.mark.slow
def test_what_left_the_corpus_is_deleted_and_what_came_is_added(
    server: PineconeServer, settings_with: Callable[..., Settings]
) -> None:
    base = {"store.name": "pinecone", "guard.max_deleted_fraction": 1, "gate.max_drop": 1}
    plan, *_ = run(settings_with(**base), "all")
    fewer, finished, _ = run(settings_with(**base, **{"source.limit": 40}), "fewer")
    assert fewer.generation == plan.generation
    assert (fewer.to_embed, finished.deleted) == (0, plan.passages - fewer.passages)
    assert finished.rows == fewer.passages
    more, finished, _ = run(settings_with(**base), "all again")
    assert (more.to_embed, finished.rows) == (plan.passages - fewer.passages, plan.passages)


@pytest.mark.slow
def test_a_model_of_another_width_is_promoted_beside_and_answers(
    server: PineconeServer, settings_with: Callable[..., Settings]
) -> None:
    base: dict[str, Any] = {"store.name": "pinecone", "gate.max_drop": 1}
    narrow, *_ = run(settings_with(**base), "narrow")
    settings = settings_with(**base, **{"embedding.hashing.dimension": 384})
    wide, _, promotion = run(settings, "wide")
    assert (promotion.live, promotion.previous) == (wide.generation, narrow.generation)
    assert sorted(server.indexes) == ["squadron-256-cosine", "squadron-384-cosine"]
    assert {row["generation"] for row in generations(settings)} == {narrow.generation, wide.generation}
    (best, *_) = search(settings, "How far away from the Earth is the Moon?", top_k=3)
    assert best["rank"] == 1
    assert best["title"] == "Moon"
