"""Catalog: the generations of a collection, what describes them, and which one is live."""

import json
import logging
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from squadron.dataflow.driver import Graph, shared_graph
from squadron.errors import GuardError, StaleLiveError, StaleRecordError, StoreError
from squadron.settings.schema import Settings
from squadron.stores.contract import LivePointer

log = logging.getLogger(__name__)

RECORD_TRIES = 5
"""How often a record is read and written anew when another run wrote it in between."""
TAKEN_BACK = " (taken back)"
"""Added to the run in `planned_by` when its changes were undone: its steps are not to go on."""


@dataclass(frozen=True)
class Promotion:
    """Which generation is live now."""

    live: str | None
    previous: str | None
    promoted: bool
    held: str | None
    """Why the candidate was not promoted, when it was rolled back before."""
    collected: list[str]
    """Old generations that were dropped."""
    seconds: float


def read_catalog(graph: Graph) -> tuple[dict[str, dict[str, Any]], str | None]:
    """The generations with their descriptions, and which of them is live."""
    found = graph.values(["generation_records", "live_generation"], client=graph.kept("client"))
    pointer: LivePointer | None = found["live_generation"]
    descriptions = {name: json.loads(record.text) for name, record in found["generation_records"].items()}
    return descriptions, pointer.generation if pointer else None


def planned_generation(graph: Graph, generation: str, run_id: str) -> dict[str, Any]:
    """The description of the generation that a run has planned for, for the steps that carry the plan out.

    Raises GuardError when another run has planned for it since: this plan is of what the generation held before.
    """
    existing, _ = read_catalog(graph)
    if generation not in existing:
        raise StoreError(f"{generation!r} is there no more: it was dropped since it was planned for. Trigger a new run")
    about = existing[generation]
    if about.get("planned_by") == run_id + TAKEN_BACK:
        raise GuardError(
            f"what run {run_id!r} had changed in {generation!r} was taken back: there is nothing to carry "
            "out, and nothing was done. Trigger a new run"
        )
    if about.get("planned_by", run_id) != run_id:
        raise GuardError(
            f"run {about['planned_by']!r} has planned for {generation!r} since run {run_id!r} did: what this "
            "one would do is out of date, and nothing was done. Trigger a new run"
        )
    return about


def opened(graph: Graph, generation: str, about: dict[str, Any] | None = None) -> Any:
    """A generation that exists. Where it may be of another vector space than today's, `about` describes it."""
    space = {}
    if about and "settings" in about:
        space = {"dimension": about["dimension"], "metric": about["settings"]["store"]["metric"]}
    return graph.value("generation_table", generation=generation, metadata_columns=(), **space)


def generations(settings: Settings) -> list[dict[str, Any]]:
    """The collection's generations, newest first, with their descriptions and whether they are live."""
    existing, live = read_catalog(shared_graph(settings))
    rows = [{"generation": name, "live": name == live, **about} for name, about in existing.items()]
    return sorted(rows, key=lambda row: row.get("created_at") or "", reverse=True)


def create_generation(
    graph: Graph, settings: Settings, generation: str, space: dict[str, str], probes: str | None, run_id: str
) -> None:
    graph.value("generation_table", generation=generation)
    service = settings.embedding.service
    describe(
        graph,
        generation,
        created_at=now(),
        planned_by=run_id,
        vector_space=space,
        dimension=graph.value("dimension"),
        probes=probes,
        settings={
            "embedding": {
                "service": service,
                "variant": settings.embedding.variant,
                service: getattr(settings.embedding, service).model_dump(),
            },
            "passages": settings.passages.model_dump(),
            "store": {"metric": settings.store.metric},
        },
    )


def describe(graph: Graph, generation: str | None, **facts: Any) -> None:
    """Change what the generation's record says; None takes a fact out.

    Raises StaleRecordError when other runs wrote the record each time that this one tried to.
    """
    for attempt in range(RECORD_TRIES):
        stored = graph.value("generation_records", client=graph.kept("client")).get(generation)
        description = (json.loads(stored.text) if stored else {}) | facts
        text = json.dumps({name: fact for name, fact in description.items() if fact is not None})
        revision = stored.revision if stored else 0
        try:
            graph.value("record_stored", generation=generation, record_text=text, expected_revision=revision)
            return
        except StaleRecordError:
            if attempt == RECORD_TRIES - 1:
                raise


def promote_generation(settings: Settings, generation: str, force: bool = False) -> Promotion:
    """Make a generation live because a person says so; no gate is asked.

    Raises StoreError for one that a run builds, or died while it did; not with `force`.
    """
    graph = shared_graph(settings)
    existing, live = read_catalog(graph)
    if generation not in existing:
        raise StoreError(
            f"collection {settings.collection!r} has no generation {generation!r}: "
            + (f"choose from {', '.join(sorted(existing))}" if existing else "there is none yet: ingest first")
        )
    if generation == live:
        return Promotion(live, None, False, "it is live already", [], 0.0)
    about = existing[generation]
    if not force and (about.get("rows") is None or about.get("index") is None):
        raise StoreError(
            f"{generation!r} is not whole: a run builds it, or did not finish. Ingest with its settings, or say --force"
        )
    pointer = move_live(graph, live, generation)
    # A refused change in place would be taken back to `base_version`: here a person accepts what is there now.
    describe(graph, generation, rolled_back_at=None, base_version=None)
    return Promotion(generation, pointer.previous, True, None, [], 0.0)


def move_live(graph: Graph, live: str | None, generation: str) -> LivePointer:
    """The live pointer, moved from one generation to another, with a note of what a rollback is to return to.

    Raises StaleLiveError when `live` is not what is live.
    """
    describe(graph, generation, predecessor=live)
    pointer: LivePointer = graph.value("promoted", generation=generation, expected_live=live)
    existing, _ = read_catalog(graph)
    if existing.get(live or "", {}).get("rolled_back_at"):  # by a rollback that was killed before it moved anything
        describe(graph, live, rolled_back_at=None)
    return pointer


def live_pointer(settings: Settings) -> dict[str, str | None]:
    """`generation`, which is live, and `previous`, to which a rollback returns; None where there is none."""
    graph = shared_graph(settings)
    existing, live = read_catalog(graph)
    before = _predecessor(existing, graph.value("live_generation"))
    there = before in existing and not existing[before].get("rolled_back_at")
    return {"generation": live, "previous": before if there else None}


def rollback(settings: Settings) -> Promotion:
    """Make the generation live again that was live when the present one was promoted; once more, the one before it.

    A generation that was left so is neither returned to nor promoted by later runs, only by hand.
    """
    graph = shared_graph(settings)
    existing, live = read_catalog(graph)
    before = _predecessor(existing, graph.value("live_generation"))
    if not before:
        raise StoreError(f"collection {settings.collection!r} has no earlier generation to return to")
    if before not in existing:
        raise StoreError(
            f"{before!r}, which was live before {live!r}, was dropped since (retention.generations = "
            f"{settings.retention.generations}): {live!r} stays live"
        )
    if left := existing[before].get("rolled_back_at"):
        raise StoreError(
            f"collection {settings.collection!r} has no earlier generation to return to: {before!r} was rolled back at "
            f"{left}, and {live!r} stays live. `promote {before}` makes it live again"
        )
    describe(graph, live, rolled_back_at=now())  # first: killed after the move, a later run would move it back
    try:
        moved = graph.value("promoted", generation=before, expected_live=live)
    except StaleLiveError:
        describe(graph, live, rolled_back_at=None)
        raise
    return Promotion(moved.generation, live, True, None, [], 0.0)


def _predecessor(existing: dict[str, dict[str, Any]], pointer: LivePointer | None) -> str | None:
    """What was live when the live generation was promoted; the pointer itself knows only what was live last."""
    if not pointer:
        return None
    return existing.get(pointer.generation, {}).get("predecessor") or pointer.previous


def collect_generations(graph: Graph, settings: Settings) -> list[str]:
    """Drop the oldest generations beyond retention, never the live one nor what a rollback returns to."""
    existing, _ = read_catalog(graph)
    pointer = graph.value("live_generation")
    wanted = {pointer.generation, pointer.previous, _predecessor(existing, pointer)}
    newest = sorted(existing, key=lambda name: existing[name].get("created_at") or "", reverse=True)
    for name in newest:
        if len(wanted & existing.keys()) >= settings.retention.generations:
            break
        wanted.add(name)
    yesterday = (datetime.now(UTC) - timedelta(days=1)).isoformat(timespec="milliseconds")
    for name, about in existing.items():
        if "metrics" not in about and about.get("created_at", "") > yesterday:
            wanted.add(name)  # perhaps another run is building it
    collected = [name for name in newest if name not in wanted]
    for name in collected:
        graph.value("dropped", generation=name)
        log.info("%s was dropped: retention.generations is %d", name, settings.retention.generations)
    return collected


def now() -> str:
    return datetime.now(UTC).isoformat(timespec="milliseconds")
