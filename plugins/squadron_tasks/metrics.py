"""Metrics of a DAG run, beside Airflow's own and by the same way: StatsD or OpenTelemetry, whichever is set up.

`squadron.<collection>.<stage>.<name>`: counters of what a stage did and of the tries it took before, gauges of what it
found, a timer `duration`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from airflow.sdk import get_current_context
from airflow.sdk.configuration import conf
from airflow.sdk.observability import stats

if TYPE_CHECKING:
    from collections.abc import Mapping

SWITCHES = ("statsd_on", "otel_on", "statsd_datadog_enabled")
COUNTERS = {
    "plan": ("quarantined",),
    "ingest": ("embedded", "cached", "written", "quarantined", "tokens", "tokens_billed", "cost_billed"),
    "finish": ("deleted",),
}
ENDED = ("success", "failed", "skipped", "upstream_failed", "removed")
GAUGES = {
    "plan": ("documents", "passages", "unchanged", "billed_tokens", "cost"),
    "finish": ("rows",),
    "evaluate": ("questions",),
}


def send(collection: str, stage: str, outcome: Mapping[str, Any]) -> None:
    """Tell what a stage returned; nothing where metrics are not set up."""
    if not is_on():
        return
    name = f"squadron.{collection}.{stage}"
    for counter in COUNTERS.get(stage, ()):
        _count(f"{name}.{counter}", outcome[counter])
    for gauge in GAUGES.get(stage, ()):
        _gauge(f"{name}.{gauge}", outcome[gauge])
    for metric, value in outcome.get("metrics", {}).items():
        _gauge(f"{name}.{metric}", value)
    for host in outcome.get("endpoints", {}).values():
        for answer, requests in host.items():
            _count(f"{name}.requests_{answer}", requests)
    if outcome.get("embedded"):
        _gauge(f"{name}.passages_per_second", outcome["embedded"] / outcome["seconds"])
    _count(f"{name}.retries", get_current_context()["ti"].try_number - 1)
    stats.timing(f"{name}.duration", outcome["seconds"] * 1000)


def send_queue_depth(collection: str, shards: int) -> None:
    """Tell how many shards of the run wait or are under way."""
    if is_on():
        stats.gauge(f"squadron.{collection}.queue_depth", shards)


def send_shards_left(collection: str) -> None:
    """Tell how many shards are left, now that this task is done with its own."""
    if is_on():
        instance: Any = get_current_context()["ti"]
        run = instance.run_id
        states = instance.get_task_states(dag_id=instance.dag_id, task_ids=[instance.task_id], run_ids=[run])[run]
        send_queue_depth(collection, sum(state not in ENDED for state in states.values()) - 1)


def is_on() -> bool:
    """Whether Airflow sends metrics anywhere."""
    return any(conf.getboolean("metrics", switch, fallback=False) for switch in SWITCHES)


def _count(name: str, value: float | None) -> None:
    if value is not None:
        stats.incr(name, value)  # type: ignore[arg-type]  # money has cents; the backends take them


def _gauge(name: str, value: float | None) -> None:
    if value is not None:
        stats.gauge(name, value)
