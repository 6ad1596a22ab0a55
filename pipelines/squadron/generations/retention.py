"""Retention: which generations are kept, and which are dropped."""

import logging
from datetime import UTC, datetime, timedelta

from squadron.generations.catalog import Generations
from squadron.settings.schema import Settings

log = logging.getLogger(__name__)


def collect_generations(catalog: Generations, settings: Settings) -> list[str]:
    """Drop the oldest generations beyond retention; their names.

    Never the live one, what a rollback returns to, one that a person is to approve, the last one that was refused and
    is kept for inspection, and one that perhaps another run is building.
    """
    retained = {catalog.live, catalog.pointer.previous if catalog.pointer else None, catalog.predecessor}
    newest = catalog.newest_first()
    for name in newest:
        if len(retained & set(newest)) >= settings.retention.generations:
            break
        retained.add(name)
    yesterday = (datetime.now(UTC) - timedelta(days=1)).isoformat(timespec="milliseconds")
    refused = [name for name in newest if catalog[name].refused_at]
    retained.update(sorted(refused, key=lambda name: catalog[name].refused_at or "")[-1:])
    for name, record in catalog.items():
        if record.awaiting_approval or (record.metrics is None and (record.created_at or "") > yesterday):
            retained.add(name)
    collected = [name for name in newest if name not in retained]
    for name in collected:
        catalog.drop(name)
        log.info("%s was dropped: retention.generations is %d", name, settings.retention.generations)
    return collected
