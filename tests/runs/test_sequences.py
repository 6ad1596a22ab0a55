"""Sequences: whatever happens to a corpus and to its runs, in whatever order, the index ends as a clean build would.

Hypothesis makes up the sequences: edits of the corpus, runs that end after any of their steps or in the middle of
one, rows lost from the store behind Squadron's back, changes of the template. Then one run goes to its end.
"""

import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from squadron.dataflow.driver import shared_graph
from squadron.errors import SquadronError
from squadron.generations.catalog import Generations
from squadron.generations.search import search
from squadron.runs.evaluate import evaluate
from squadron.runs.finish import finish
from squadron.runs.ingest_shard import ingest_shard
from squadron.runs.plan import plan_run
from squadron.runs.promote import promote
from squadron.runs.whole_run import ingest
from squadron.settings.layers import Layer, resolve
from squadron.settings.schema import Settings
from tests.whole_runs import stored_rows, write_corpus

ENDS = ("plan", "first shard", "last shard", "finish", "evaluate", "promote")
Documents = dict[int, int]
"""Number of a document -> its version."""

numbers = st.integers(0, 11)
edits = st.one_of(
    st.tuples(st.just("write"), numbers, st.integers(0, 2)),
    st.tuples(st.just("remove"), numbers),
    st.tuples(st.just("run"), st.sampled_from(ENDS)),
    st.tuples(st.just("lose rows"), st.integers(0, 3)),
    st.tuples(st.just("template"), st.sampled_from(["plain_v1", "title_text_v1"])),
)


@dataclass
class World:
    """A corpus, and an index of it that is to follow."""

    folder: Path
    documents: Documents
    template: str = "title_text_v1"
    runs: int = 0

    def settings(self, place: str = "index") -> Settings:
        values: dict[str, Any] = {
            **write_corpus(self.folder / "corpus.jsonl", map(_row, sorted(self.documents.items()))),
            "collection": "books",
            "embedding.service": "hashing",
            "embedding.hashing.dimension": 32,
            "passages.template": self.template,
            "store.lancedb.uri": f"{place}/lancedb",
            "ingest.staging": f"{place}/staging",
            "ingest.shard_passages": 3,
            "cache.path": f"{place}/cache",
            "guard.max_deleted_fraction": 1.0,
            "gate.max_drop": 1.0,
        }
        return resolve([Layer("test", values, self.folder)]).settings


def _row(item: tuple[int, int]) -> dict[str, Any]:
    number, version = item
    text = f"The thing called name{number} is of version{version}. " * (40 if number % 4 == 0 else 1)
    return {"id": f"doc-{number}", "title": f"Number {number}", "context": text, "question": f"Which is name{number}?"}


@settings(max_examples=20)
@given(st.lists(edits, min_size=3, max_size=12))
def test_any_sequence_of_edits_and_broken_runs_ends_as_a_clean_build(sequence: list[tuple[Any, ...]]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        world = World(Path(folder), dict.fromkeys(range(5), 0))
        for name, *values in sequence:
            ACTIONS[name](world, *values)
            _a_reader_is_answered(world)
        if not world.documents:
            world.documents = {0: 0}

        last = ingest(world.settings())
        clean = ingest(world.settings("clean"))

        assert last["live"] == clean["live"]
        assert stored_rows(world.settings(), last["live"]) == stored_rows(world.settings("clean"), clean["live"])


def _a_reader_is_answered(world: World) -> None:
    """From the first promotion on, by a generation that was complete once."""
    reading = world.settings()
    live = Generations.of(reading).live
    if live:
        assert search(reading, "Which thing is it?", top_k=1)


def _write(world: World, number: int, version: int) -> None:
    world.documents[number] = version


def _remove(world: World, number: int) -> None:
    world.documents.pop(number, None)


def _template(world: World, template: str) -> None:
    world.template = template


def _lose_rows(world: World, number: int) -> None:
    """Some rows vanish from the live generation, never all of them."""
    reading = world.settings()
    graph = shared_graph(reading)
    live = Generations(graph).live
    if live:
        table = graph.value("generation_table", generation=live, metadata_columns=())
        ids = sorted(table.to_arrow()["id"].to_pylist())
        lost = ids[: min(number, len(ids) - 1)]
        if lost:
            table.delete(f"id IN ({', '.join(map(repr, lost))})")


def _run(world: World, end: str) -> None:
    """A run that ends after a step, as if its process were gone: nothing is tidied up."""
    running = world.settings()
    world.runs += 1
    try:
        plan = plan_run(running, f"run {world.runs}")
    except SquadronError:
        assert not world.documents
        return
    if end == "plan":
        return
    for shard in plan.shards[:1] if end == "first shard" else plan.shards:
        ingest_shard(running, plan, shard)
    if end in ("first shard", "last shard"):
        return
    finish(running, plan)
    if end == "finish":
        return
    evaluation = evaluate(running, plan)
    if end == "evaluate":
        return
    promote(running, plan, evaluation)


ACTIONS: dict[str, Callable[..., None]] = {
    "write": _write,
    "remove": _remove,
    "run": _run,
    "lose rows": _lose_rows,
    "template": _template,
}
