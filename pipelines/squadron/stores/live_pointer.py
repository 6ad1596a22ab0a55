"""The live pointer: which generation of a collection its readers see, and when it may move."""

from collections.abc import Callable, Collection
from datetime import UTC, datetime

from squadron.errors import StaleLiveError, StoreError
from squadron.stores.contract import LivePointer


def promote(
    collection_name: str,
    generation: str,
    expected_live: str | None,
    existing: Collection[str],
    read: Callable[[], LivePointer | None],
    move: Callable[[LivePointer], bool],
) -> LivePointer:
    """The live pointer, moved to a generation, which may be live already.

    `existing`: the collection's generations. `read`: returns the stored pointer. `move`: stores a pointer, and returns
    whether it did. Raises StoreError when there is no such generation, StaleLiveError when another one than
    `expected_live` is live.
    """
    before = read()
    pointer = _next_pointer(collection_name, generation, existing, before, expected_live)
    if pointer != before and not move(pointer):
        raise _stale_pointer(collection_name, generation, read(), expected_live)
    return pointer


def refuse_live(collection_name: str, generation: str, pointer: LivePointer | None) -> None:
    """Raise StoreError when the generation that is to be dropped is the live one."""
    if pointer and pointer.generation == generation:
        raise StoreError(f"{generation!r} is live in {collection_name!r}: promote another one before")


def refuse_foreign(collection_name: str, generation: str, owner: str) -> None:
    """Raise StoreError when the generation that is to be dropped is another collection's."""
    if owner != collection_name:
        raise StoreError(f"{generation!r} is a generation of {owner!r}, not of {collection_name!r}: it was not dropped")


def _next_pointer(
    collection_name: str,
    generation: str,
    existing: Collection[str],
    before: LivePointer | None,
    expected_live: str | None,
) -> LivePointer:
    """The pointer with which the generation is live: a new one, or `before` where it is live already.

    Whatever was expected then: a task that crashed after it moved the pointer is run again.
    """
    if generation not in existing:
        raise StoreError(f"collection {collection_name!r} has no generation {generation!r} to promote")
    live = before.generation if before else None
    if before and live == generation:
        return before
    if live != expected_live:
        raise _stale_pointer(collection_name, generation, before, expected_live)
    revision = before.revision + 1 if before else 1
    promoted_at = datetime.now(UTC).isoformat(timespec="seconds")
    return LivePointer(collection_name, generation, live, revision, promoted_at)


def _stale_pointer(
    collection_name: str, generation: str, pointer: LivePointer | None, expected_live: str | None
) -> StaleLiveError:
    """The error for a pointer that another run moved first."""
    live = pointer.generation if pointer else None
    return StaleLiveError(
        f"{generation!r} was not promoted: {live!r} is live in {collection_name!r}, this run expected "
        f"{expected_live!r}. Another run was faster: ingest again"
    )
