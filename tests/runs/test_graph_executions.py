"""How often a run executes the graph, and how often it reads the catalog: each costs a round trip to the store."""

import sys
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

from hamilton.driver import Driver

from squadron.dataflow.driver import shared_graph
from squadron.runs.whole_run import ingest
from squadron.settings.schema import Settings
from squadron.stores.lancedb import store

COUNTED = {Driver.execute.__code__: "graph executions", store.generation_records.__code__: "catalog reads"}


@contextmanager
def counted_calls() -> Iterator[Counter[str]]:
    """Counts, by the interpreter's own profiling hook, in this thread and in those that begin inside."""
    calls: Counter[str] = Counter()

    def note(frame: FrameType, event: str, _: Any) -> None:
        if event == "call" and frame.f_code in COUNTED:
            calls[COUNTED[frame.f_code]] += 1

    threading.setprofile(note)
    sys.setprofile(note)
    try:
        yield calls
    finally:
        sys.setprofile(None)
        threading.setprofile(None)  # type: ignore[arg-type]  # the standard library's stub forgets that None ends it


def test_an_unchanged_run_executes_the_graph_eight_times_and_reads_the_catalog_thrice_at_the_most(
    settings_with: Callable[..., Settings],
) -> None:
    ingest(settings_with())
    shared_graph.cache_clear()  # as in a process of its own

    with counted_calls() as calls:
        report = ingest(settings_with())

    assert report["counts"]["unchanged"] == report["counts"]["passages"]
    assert 0 < calls["catalog reads"] <= 3, calls
    assert 0 < calls["graph executions"] <= 8, calls


def test_a_first_run_executes_the_graph_twenty_six_times_at_the_most(settings_with: Callable[..., Settings]) -> None:
    with counted_calls() as calls:
        report = ingest(settings_with())

    assert report["counts"]["written"] == report["counts"]["passages"]
    assert 0 < calls["graph executions"] <= 26, calls
