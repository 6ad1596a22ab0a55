"""The whole pipeline into Weaviate: what is there already is not embedded or written again, and is found."""

from collections.abc import Callable, Iterator

import pytest

from squadron.generations.live_pointer import rollback
from squadron.generations.search import search
from squadron.runs.whole_run import ingest
from squadron.settings.schema import Settings
from tests.wire.weaviate_server import WeaviateServer

Changed = Callable[..., Settings]


@pytest.fixture
def server() -> Iterator[WeaviateServer]:
    with WeaviateServer() as running:
        yield running


@pytest.fixture
def weaviate_settings(server: WeaviateServer, settings_with: Changed) -> Changed:
    """Settings of the sample and hashed words in this server. Takes changes by dotted key."""
    place = {"store.name": "weaviate", "store.weaviate.uri": server.uri, "store.weaviate.grpc_port": server.grpc_port}
    return lambda **changes: settings_with(**place | changes)


def test_a_first_run_ingests_and_promotes_and_a_second_embeds_and_writes_nothing(
    server: WeaviateServer, weaviate_settings: Changed
) -> None:
    first = ingest(weaviate_settings())
    before = len(server.batches)
    second = ingest(weaviate_settings())

    counts = first["counts"]
    assert counts["embedded"] + counts["cached"] == counts["written"] == counts["passages"] > 0
    assert (first["promoted"], first["live"]) == (True, first["generation"])
    assert server.database.aliases == {"Books": _class(first)}
    assert len(server.database.classes[_class(first)].objects) == counts["passages"]
    assert second["counts"] == counts | {"unchanged": counts["passages"], "embedded": 0, "cached": 0, "written": 0}
    assert (second["promoted"], second["live"]) == (False, first["generation"])
    assert set(server.batches[before:]) <= {1}  # catalog entries
    assert (second["metrics"], second["reused"]) == (first["metrics"], True)


@pytest.mark.slow
def test_a_new_generation_is_built_beside_the_live_one_and_old_ones_are_collected(
    server: WeaviateServer, weaviate_settings: Changed
) -> None:
    made = [ingest(weaviate_settings(**{"embedding.hashing.dimension": width})) for width in (64, 128)]
    assert [one["promoted"] for one in made] == [True, True]
    assert server.database.aliases == {"Books": _class(made[1])}

    moved = rollback(weaviate_settings())
    assert (moved.live, server.database.aliases) == (made[0]["generation"], {"Books": _class(made[0])})

    made.append(ingest(weaviate_settings(**{"embedding.hashing.dimension": 256})))
    assert made[2]["collected"] == [made[1]["generation"]]
    assert server.database.classes.keys() >= {_class(made[0]), _class(made[2])}
    assert _class(made[1]) not in server.database.classes


@pytest.mark.slow
def test_rows_that_left_the_corpus_are_deleted(server: WeaviateServer, weaviate_settings: Changed) -> None:
    whole = ingest(weaviate_settings())["counts"]
    part = ingest(weaviate_settings(**{"source.limit": whole["documents"] - 2}))["counts"]
    assert part["deleted"] == whole["passages"] - part["passages"] > 0
    (held,) = [len(known.objects) for name, known in server.database.classes.items() if name.startswith("Books_")]
    assert held == part["passages"]


@pytest.mark.slow
def test_a_question_is_answered_by_the_live_generation(weaviate_settings: Changed) -> None:
    report = ingest(weaviate_settings())
    found = search(weaviate_settings(), report["example_question"], top_k=3)
    assert [row["rank"] for row in found] == [1, 2, 3]
    scores = [row["score"] for row in found]
    assert scores == sorted(scores, reverse=True)
    titled = search(weaviate_settings(), report["example_question"], top_k=50, filter={"title": found[0]["title"]})
    assert {row["title"] for row in titled} == {found[0]["title"]}


def _class(report: dict) -> str:
    return report["generation"].capitalize()
