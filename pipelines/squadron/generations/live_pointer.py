"""Live pointer: how it moves, because a run passed the gate or because a person says so, and how it moves back."""

from dataclasses import dataclass, field

from squadron.errors import StaleLiveError, StoreError
from squadron.generations.catalog import Generations
from squadron.generations.record import now
from squadron.settings.schema import Settings


@dataclass(frozen=True)
class LiveSync:
    """What a run did to the live generation beside the one that it was about."""

    generation: str
    written: int
    deleted: int
    seconds: float


@dataclass(frozen=True)
class Promotion:
    """Which generation is live now."""

    live: str | None
    previous: str | None
    promoted: bool
    held: str | None = None
    """Why the candidate was not promoted, when it was rolled back before."""
    collected: list[str] = field(default_factory=list)
    """Old generations that were dropped."""
    seconds: float = 0.0
    live_sync: LiveSync | None = None
    """What was done to the live generation, when it is not the one that the run was about."""


@dataclass(frozen=True)
class Live:
    """`generation`, which is live, and `previous`, to which a rollback returns; None where there is none."""

    generation: str | None
    previous: str | None


def live_and_previous(catalog: Generations) -> Live:
    """What is live, and what a rollback returns to."""
    before = catalog.predecessor
    there = before in catalog and not catalog.get(before).rolled_back_at
    return Live(catalog.live, before if there else None)


def promote_generation(settings: Settings, generation: str, force: bool = False) -> Promotion:
    """Make a generation live because a person says so; no gate is asked.

    Raises StoreError for one that a run builds, or died while it did; not with `force`.
    """
    catalog = Generations.of(settings)
    if generation not in catalog:
        raise StoreError(
            f"collection {settings.collection!r} has no generation {generation!r}: "
            + (f"choose from {', '.join(sorted(catalog))}" if len(catalog) else "there is none yet: ingest first")
        )
    if generation == catalog.live:
        return Promotion(catalog.live, None, False, "it is live already")
    if not force and not catalog[generation].is_whole:
        raise StoreError(
            f"{generation!r} is not whole: a run builds it, or did not finish. Ingest with its settings, or say --force"
        )
    previous = promote_from(catalog, catalog.live, generation)
    # A refused change in place would be taken back to `base_version`: here a person accepts what is there now.
    catalog.change(generation, rolled_back_at=None, base_version=None)
    return Promotion(generation, previous, True)


def promote_from(catalog: Generations, live: str | None, generation: str) -> str | None:
    """Move the pointer from one generation to another, with a note of what a rollback is to return to.

    Returns what was live before. Raises StaleLiveError when `live` is not what is live.
    """
    catalog.change(generation, predecessor=live)
    pointer = catalog.move_live(generation, live)
    if catalog.get(live).rolled_back_at:  # by a rollback that was killed before it moved anything
        catalog.change(live or "", rolled_back_at=None)
    return pointer.previous


def rollback(settings: Settings) -> Promotion:
    """Make the generation live again that was live when the present one was promoted; once more, the one before it.

    A generation that was left so is neither returned to nor promoted by later runs, only by hand.
    """
    catalog = Generations.of(settings)
    live, before = catalog.live, catalog.predecessor
    if not live or not before:
        raise StoreError(f"collection {settings.collection!r} has no earlier generation to return to")
    if before not in catalog:
        raise StoreError(
            f"{before!r}, which was live before {live!r}, was dropped since (retention.generations = "
            f"{settings.retention.generations}): {live!r} stays live"
        )
    if left := catalog[before].rolled_back_at:
        raise StoreError(
            f"collection {settings.collection!r} has no earlier generation to return to: {before!r} was rolled back at "
            f"{left}, and {live!r} stays live. `promote {before}` makes it live again"
        )
    catalog.change(live, rolled_back_at=now())  # first: killed after the move, a later run would move it back
    try:
        moved = catalog.move_live(before, live)
    except StaleLiveError:
        catalog.change(live, rolled_back_at=None)
        raise
    return Promotion(moved.generation, live, True)
