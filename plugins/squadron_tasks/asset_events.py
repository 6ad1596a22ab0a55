"""Asset events: other DAGs can be scheduled on what a run has changed for readers."""

from __future__ import annotations

from typing import TYPE_CHECKING

from airflow.sdk import Asset, AssetAlias, get_current_context

from squadron.airflow_support.lineage import collection_uri

if TYPE_CHECKING:
    from squadron.runs.report import RunReport
    from squadron.settings.schema import Settings
    from squadron_tasks.payloads import JsonObject


def index_alias(collection: str) -> AssetAlias:
    """The alias under which a DAG announces the asset. Its store is known once a run has read its settings."""
    return AssetAlias(f"vector_index_{collection}")


def announce_change(settings: Settings, report: RunReport, alias: AssetAlias) -> None:
    """Add an event of the collection's asset, where readers see something new."""
    counts = report["counts"]
    is_live = report["live"] == report["generation"]
    if not is_live or not (report["promoted"] or counts["written"] or counts["deleted"]):
        return
    store, collection = settings.store.name, report["collection"]
    asset = Asset(name=f"{collection} in {store}", uri=collection_uri(store, collection))
    extra: JsonObject = {
        "run_id": report["run_id"],
        "generation": report["generation"],
        "metrics": {**report["metrics"]},
        "vector_space": {**report["vector_space"]},
        "cost": report["cost"],
        "rows": report["rows"],
    }
    get_current_context()["outlet_events"][alias].add(asset, extra=extra)
