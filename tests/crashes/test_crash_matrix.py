"""A run is killed, by SIGKILL, at any moment: its readers lose nothing, and the next run ends as if nothing had been.

python -m pytest -m exhaustive tests/crashes       many more moments, and the table of them
"""

import random
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import asdict
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from tests.crashes.kills import Launcher
from tests.crashes.matrix import BEFORE, SCENARIOS, Bench, Kill, Row, Scenario
from tests.crashes.places import Place, Restore, lancedb_place, pgvector_place, pinecone_place, weaviate_place
from tests.stores import postgres

pytestmark = pytest.mark.xdist_group("crashes")

Benches = Callable[[str, int], Bench]
# How many moments of each kind are tried every time.
MOMENTS = {
    "lancedb": {"stage": 7, "call": 1, "file": 2, "change": 3},
    **{store: {"stage": 1, "request": 2, "request done": 2} for store in ("pinecone", "weaviate", "pgvector")},
}
OFTEN = "lancedb"
"""The store whose share every run takes; the others' are `slow`."""
SOME = [
    pytest.param(store, kind, marks=() if store == OFTEN else pytest.mark.slow, id=f"{store}-{kind}")
    for store, kinds in MOMENTS.items()
    for kind in kinds
]
ALL = [(store, kind) for store, kinds in MOMENTS.items() for kind in {**kinds, "call": 0, "file": 0}]
EXHAUSTIVE = 100


@pytest.fixture(scope="module")
def benches(launcher: Launcher, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Benches]:
    """A bench by store and number of the scenario, made when it is first asked for."""
    with ExitStack() as stack:

        @cache
        def place(store: str) -> tuple[Place, Restore]:
            match store:
                case "lancedb":
                    made = stack.enter_context(lancedb_place())
                case "pinecone":
                    made = stack.enter_context(pinecone_place(launcher.kill))
                case "weaviate":
                    made = stack.enter_context(weaviate_place(launcher.kill))
                case "pgvector":
                    programs = postgres.programs()
                    if programs is None:
                        pytest.skip(postgres.WANTED)
                    server = stack.enter_context(postgres.running(programs))
                    made = stack.enter_context(pgvector_place(launcher.kill, server))
            return made, made.snapshot()

        @cache
        def bench(store: str, scenario: int) -> Bench:
            return Bench(launcher, *place(store), SCENARIOS[scenario], tmp_path_factory.mktemp("crashes"))

        yield bench


def tried(benches: Benches, store: str, scenario: int, kind: str, most: int, record: Callable[..., None]) -> Row:
    """The row of the table, after all its cases."""
    bench = benches(store, scenario)
    row = Row(store, SCENARIOS[scenario].name, kind)
    for kill in bench.kills(kind, most):
        bench.tried([kill], row)
    record("crashes", asdict(row) | {"wrong": len(row.wrong)})
    return row


@pytest.mark.parametrize("scenario", [1, 2], ids=["changed corpus", "new generation"])
@pytest.mark.parametrize(("store", "kind"), SOME)
def test_a_run_that_was_killed_loses_nothing_and_the_next_one_completes_it(
    benches: Benches, store: str, kind: str, scenario: int, record_property: Callable[..., None]
) -> None:
    row = tried(benches, store, scenario, kind, MOMENTS[store][kind], record_property)

    assert not row.wrong
    assert row.killed


def test_a_rollback_that_was_killed_is_not_undone_by_the_next_run(launcher: Launcher, tmp_path: Path) -> None:
    scenario = Scenario("rollback", ((BEFORE, 3), (BEFORE, 4)), (BEFORE, 4))
    lives = []
    with lancedb_place() as place:
        bench = Bench(launcher, place, place.snapshot(), scenario, tmp_path)
        with bench.case():
            calls = bench.run(["rollback"], traced=True).calls
        turns = ["call stores/lancedb/store.record_stored"]
        turns += [f"{moment} stores/lancedb/store.promoted" for moment in ("call", "return")]
        for number in (at for at, label in enumerate(calls, 1) if label in turns):
            with bench.case():
                assert bench.run(["rollback"], {"call": number}, traced=True).killed
                (before,) = bench.run(["read"]).done
                _, after = bench.run(["ingest", "read"]).done
                assert after["live"] == before["live"]
                lives.append(before["live"])

    assert len(set(lives)) == 2  # it was killed before and after the pointer moved
    assert lives[0] == bench.old["live"]


@pytest.mark.exhaustive
@pytest.mark.parametrize("scenario", range(len(SCENARIOS)), ids=[scenario.name for scenario in SCENARIOS])
@pytest.mark.parametrize(("store", "kind"), ALL)
def test_whenever_a_run_is_killed_the_next_one_completes_it(
    benches: Benches, store: str, kind: str, scenario: int, record_property: Callable[..., None]
) -> None:
    row = tried(benches, store, scenario, kind, EXHAUSTIVE, record_property)

    assert not row.wrong
    assert row.killed


@pytest.mark.exhaustive
@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("scenario", range(len(SCENARIOS)), ids=[scenario.name for scenario in SCENARIOS])
@pytest.mark.parametrize("store", MOMENTS)
def test_runs_killed_at_random_one_after_the_other_are_completed_by_the_next(
    benches: Benches, store: str, scenario: int, seed: int, record_property: Callable[..., Any]
) -> None:
    bench, chance = benches(store, scenario), random.Random(seed)
    row = Row(store, SCENARIOS[scenario].name, f"random, seed {seed}")

    for _ in range(5):
        calls = [Kill("call", chance.randint(1, len(bench.clean.calls))) for _ in range(chance.randint(1, 2))]
        times = [Kill("seconds", chance.uniform(0.0, bench.clean.seconds)) for _ in range(chance.randint(0, 2))]
        bench.tried(chance.sample(calls + times, len(calls + times)), row)

    record_property("crashes", asdict(row) | {"wrong": len(row.wrong)})
    assert not row.wrong
    assert row.killed
