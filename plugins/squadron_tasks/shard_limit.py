"""Shard limit: Airflow maps a task over at most `[core] max_map_length` shards."""

from __future__ import annotations

from typing import TYPE_CHECKING

from airflow.sdk.configuration import conf

from squadron.errors import SettingsError

if TYPE_CHECKING:
    from squadron.runs.results import Plan


def check_shard_count(plan: Plan) -> None:
    """Raise SettingsError when a plan has more shards than the limit, and remove the plan's files from staging."""
    limit = conf.getint("core", "max_map_length")
    if len(plan.shards) <= limit:
        return
    from squadron.staging import shards as staging

    smallest_size = -(-sum(shard.passages for shard in plan.shards) // limit)
    staging.remove(plan.folder, but=staging.SPENT)
    raise SettingsError(
        f"{len(plan.shards):,} shards are more than Airflow maps a task over ([core] max_map_length = {limit:,}): "
        f"set ingest.shard_passages to {smallest_size:,} or more. Nothing was embedded"
    )
