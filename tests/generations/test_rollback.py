"""Rollback goes back, and never forward again: twice is two generations back, as far as these are kept."""

import json

import pytest
from typer.testing import CliRunner

from squadron.__main__ import app
from squadron.dataflow.driver import shared_graph
from squadron.errors import StoreError
from squadron.generations.catalog import Generations
from squadron.generations.live_pointer import Live, live_and_previous, promote_generation, rollback
from squadron.runs.ingest_shard import ingest_shard
from squadron.runs.plan import plan_run
from squadron.settings.schema import Settings
from tests.whole_runs import live, numbered, run, write_corpus


@pytest.fixture
def settings(settings_with, tmp_path) -> list[Settings]:
    """Of three generations, all of which are kept."""
    corpus = write_corpus(tmp_path / "corpus.jsonl", numbered(*range(9)))
    common = {**corpus, "retention.generations": 3, "embedding.service": "hashing"}
    return [settings_with(**common, **{"embedding.hashing.dimension": width}) for width in (8, 16, 32)]


@pytest.fixture
def names(settings: list[Settings]) -> list[str]:
    """Of the generations, the last of them live."""
    return [run(one).plan.generation for one in settings]


def test_rollback_twice_is_two_generations_back(settings: list[Settings], names: list[str]) -> None:
    first, second, third = names

    moves = [rollback(settings[2]) for _ in range(2)]

    assert [(move.live, move.previous) for move in moves] == [(second, third), (first, second)]
    assert live(settings[2]) == first


def test_at_its_end_it_says_so_and_goes_nowhere(settings: list[Settings], names: list[str]) -> None:
    for _ in range(2):
        rollback(settings[2])

    with pytest.raises(StoreError, match=rf"no earlier.*{names[1]}' was rolled back at.*`promote {names[1]}`"):
        rollback(settings[2])
    assert live(settings[2]) == names[0]
    assert live_and_previous(Generations.of(settings[2])) == Live(names[0], None)


def test_what_it_would_return_to_is_told_before(settings: list[Settings], names: list[str]) -> None:
    told = [live_and_previous(Generations.of(settings[2])).previous]
    rollback(settings[2])
    told.append(live_and_previous(Generations.of(settings[2])).previous)

    assert told == [names[1], names[0]]


def test_who_was_promoted_by_hand_is_left_for_what_was_live_then(settings: list[Settings], names: list[str]) -> None:
    rollback(settings[2])
    rollback(settings[2])
    promote_generation(settings[2], names[2])

    assert rollback(settings[2]).live == names[0]


def test_promotions_in_a_circle_are_not_gone_round(settings: list[Settings], names: list[str]) -> None:
    promote_generation(settings[2], names[0])

    assert [rollback(settings[2]).live for _ in range(2)] == [names[2], names[1]]
    with pytest.raises(StoreError, match="no earlier generation to return to"):
        rollback(settings[2])


def test_a_generation_that_was_dropped_is_not_returned_to(settings: list[Settings], names: list[str]) -> None:
    graph = shared_graph(settings[2])
    graph.value("dropped", generation=names[1])

    with pytest.raises(StoreError, match=rf"'{names[1]}', which was live before '{names[2]}', was dropped since"):
        rollback(settings[2])
    assert live(settings[2]) == names[2]


def test_a_generation_of_an_earlier_version_is_left_for_what_the_pointer_knows(
    settings: list[Settings], names: list[str]
) -> None:
    graph = shared_graph(settings[2])
    for name in names:
        Generations(graph).change(name, predecessor=None)

    assert rollback(settings[2]).live == names[1]
    with pytest.raises(StoreError, match=f"{names[2]}' was rolled back at"):
        rollback(settings[2])


def test_a_rollback_that_was_killed_before_it_moved_anything_is_forgotten_by_the_next_promotion(
    settings: list[Settings],
) -> None:
    first, second = run(settings[0]).plan.generation, run(settings[1]).plan.generation
    Generations.of(settings[1]).change(second, rolled_back_at="then")
    run(settings[2])

    assert [rollback(settings[2]).live for _ in range(2)] == [second, first]


def test_what_a_second_rollback_needs_is_not_dropped(settings: list[Settings], names: list[str]) -> None:
    rollback(settings[2])  # the second is live, the third was, the first is the oldest
    few = settings[1].model_copy(update={"retention": settings[1].retention.model_copy(update={"generations": 2})})

    run(few, "again")

    assert names[0] in Generations.of(few)
    assert rollback(few).live == names[0]


def test_the_command_says_where_it_went(settings: list[Settings], names: list[str], tmp_path) -> None:
    plain = settings[2].model_dump(mode="json")
    given = {
        "collection": plain["collection"],
        "store.lancedb.uri": plain["store"]["lancedb"]["uri"],
        "ingest.staging": plain["ingest"]["staging"],
        "embedding.service": "hashing",
    }
    command = ["rollback", *(f"--set={name}={value}" for name, value in given.items())]

    back = json.loads(CliRunner().invoke(app, [*command, "--json"]).stdout)
    shown = CliRunner().invoke(app, command)
    refused = CliRunner().invoke(app, command)

    assert (back["live"], back["previous"]) == (names[1], names[2])
    assert shown.stdout.strip() == f"{names[0]} is live; {names[1]} was before"
    assert refused.exit_code == 1
    assert "no earlier generation to return to" in refused.stderr


def test_a_generation_that_no_run_has_finished_is_promoted_by_force_alone(settings_with) -> None:
    settings = settings_with()
    plan = plan_run(settings, "run")
    ingest_shard(settings, plan, plan.shards[0])  # and the run died

    with pytest.raises(StoreError, match=r"is not whole: a run builds it, or did not finish"):
        promote_generation(settings, plan.generation)

    assert promote_generation(settings, plan.generation, force=True).live == plan.generation
