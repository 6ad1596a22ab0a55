"""Retention: which generations are kept, and which are dropped."""

import logging
from datetime import UTC, datetime, timedelta

from squadron.generations.catalog import Generations
from squadron.settings.schema import Settings

log = logging.getLogger(__name__)


def collect_generations(catalog: Generations, settings: Settings) -> list[str]:
    """Drop the oldest generations beyond retention, never the live one nor what a rollback returns to; their names."""
    retained = {catalog.live, catalog.pointer.previous if catalog.pointer else None, catalog.predecessor}
    newest = catalog.newest_first()
    for name in newest:
        if len(retained & set(newest)) >= settings.retention.generations:
            break
        retained.add(name)
    yesterday = (datetime.now(UTC) - timedelta(days=1)).isoformat(timespec="milliseconds")
    for name, record in catalog.items():
        if record.metrics is None and (record.created_at or "") > yesterday:
            retained.add(name)  # perhaps another run is building it
    collected = [name for name in newest if name not in retained]
    for name in collected:
        catalog.drop(name)
        log.info("%s was dropped: retention.generations is %d", name, settings.retention.generations)
    return collected
