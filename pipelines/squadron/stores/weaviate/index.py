"""Weaviate's index: the server keeps it, and may do so in the background."""

import time

from squadron.errors import StoreError
from squadron.stores.weaviate.requests import answered
from squadron.stores.weaviate.schema import Generation

POLL_SECONDS = 0.5


def wait_for_index(generation: Generation, timeout_seconds: float) -> None:
    """Return when all vectors are indexed.

    Raises StoreError when a shard is read-only, or when for `timeout_seconds` nothing was indexed.
    """
    least, progressed_at = None, time.monotonic()
    while waiting := _unindexed(generation):
        if least is None or waiting < least:
            least, progressed_at = waiting, time.monotonic()
        if time.monotonic() - progressed_at > timeout_seconds:
            raise StoreError(
                f"{waiting} vectors of {generation.name!r} wait to be indexed, no fewer than "
                f"{timeout_seconds:g} seconds ago: look at the server, then run this step again"
            )
        time.sleep(POLL_SECONDS)


def _unindexed(generation: Generation) -> int:
    """The number of vectors that wait to be indexed."""
    call = generation.rows.config.get_shards
    shards = answered(generation.connection, f"look at the index of {generation.name!r}", call)
    if locked := [shard.name for shard in shards if shard.status == "READONLY"]:
        raise StoreError(f"{generation.name!r} is read-only (shards {', '.join(locked)}): is the server's disk full?")
    return sum(shard.vector_queue_size for shard in shards)
