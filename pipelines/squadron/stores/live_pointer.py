"""The live pointer: which generation of a collection its readers see, and when it may move."""

from collections.abc import Collection
from datetime import UTC, datetime
from typing import Any

from squadron.errors import StaleLiveError, StoreError


def next_pointer(
    collection_name: str,
    generation: str,
    existing: Collection[str],
    before: dict[str, Any] | None,
    expected_live: str | None,
) -> dict[str, Any]:
    """The pointer with which the generation is live: a row of its own, or `before` where it is live already.

    Raises StoreError when the generation is not among the `existing`, StaleLiveError when another one than
    `expected_live` is live. A generation that is live already is what was wanted, whatever was expected: a task
    that crashed after it moved the pointer comes here again.
    """
    if generation not in existing:
        raise StoreError(f"collection {collection_name!r} has no generation {generation!r} to promote")
    live = before["generation"] if before else None
    if before and live == generation:
        return before
    if live != expected_live:
        raise stale(collection_name, generation, live, expected_live)
    return {
        "collection": collection_name,
        "generation": generation,
        "previous": live,
        "revision": before["revision"] + 1 if before else 1,
        "promoted_at": datetime.now(UTC).isoformat(timespec="seconds"),
    }


def first_description() -> dict[str, Any]:
    """How a generation is described from the moment it is there: a run that dies then leaves no nameless one."""
    return {"created_at": datetime.now(UTC).isoformat(timespec="milliseconds")}


def stale(collection_name: str, generation: str, live: str | None, expected_live: str | None) -> StaleLiveError:
    """The error for a pointer that another run moved first."""
    return StaleLiveError(
        f"{generation!r} was not promoted: {live!r} is live in {collection_name!r}, this run expected "
        f"{expected_live!r}. Another run was faster: ingest again"
    )


def refuse_live(collection_name: str, generation: str, live: dict[str, Any] | None) -> None:
    """Raise StoreError when the generation that is to be dropped is the live one."""
    if live and live["generation"] == generation:
        raise StoreError(f"{generation!r} is live in {collection_name!r}: promote another one before")
