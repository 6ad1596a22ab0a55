"""Metrics of a DAG run. They go where Airflow's own go: to StatsD or OpenTelemetry, whichever is set up.

`squadron.<collection>.<stage>.<name>`: counters of what a stage did and of its retries, gauges of what it measured, a
timer `duration`. `squadron.<collection>.queue_depth`: the shards that are left.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from airflow.sdk import get_current_context
from airflow.sdk.configuration import conf
from airflow.sdk.observability import stats

if TYPE_CHECKING:
    from squadron.generations.live_pointer import Promotion
    from squadron.runs.results import Evaluation, Finished, Ingested, Plan

    Outcome = Plan | Ingested | Finished | Evaluation | Promotion

SWITCHES = ("statsd_on", "otel_on", "statsd_datadog_enabled")
COUNTERS = {
    "plan": ("quarantined",),
    "ingest": ("embedded", "cached", "written", "quarantined", "tokens", "billed_tokens", "billed_cost"),
    "finish": ("deleted",),
}
ENDED = ("success", "failed", "skipped", "upstream_failed", "removed")
GAUGES = {
    "plan": ("documents", "passages", "unchanged", "estimated_tokens", "cost"),
    "finish": ("rows",),
    "evaluate": ("questions",),
}


def send(collection: str, stage: str, outcome: Outcome) -> None:
    """Send the figures of what a stage returned, where metrics are set up."""
    if not is_on():
        return
    fields = vars(outcome)
    name = f"squadron.{collection}.{stage}"
    for counter in COUNTERS.get(stage, ()):
        _count(f"{name}.{counter}", fields[counter])
    for gauge in GAUGES.get(stage, ()):
        _gauge(f"{name}.{gauge}", fields[gauge])
    for metric, value in fields.get("metrics", {}).items():
        _gauge(f"{name}.{metric}", value)
    for host in fields.get("endpoints", {}).values():
        for answer, requests in host.items():
            _count(f"{name}.requests_{answer}", requests)
    if fields.get("embedded"):
        _gauge(f"{name}.passages_per_second", fields["embedded"] / fields["seconds"])
    _count(f"{name}.retries", get_current_context()["ti"].try_number - 1)
    stats.timing(f"{name}.duration", fields["seconds"] * 1000)
    _gauge(f"squadron.{collection}.queue_depth", _shards_left(stage, outcome))


def is_on() -> bool:
    """Whether Airflow sends metrics anywhere."""
    return any(conf.getboolean("metrics", switch, fallback=False) for switch in SWITCHES)


def _shards_left(stage: str, outcome: Outcome) -> int | None:
    """How many shards of the run wait or are under way; None after stages that leave it as it is."""
    if stage == "plan":
        return len(vars(outcome)["shards"])
    if stage == "finish":
        return 0
    if stage != "ingest":
        return None
    instance = get_current_context()["ti"]
    run_id = instance.run_id
    states = instance.get_task_states(dag_id=instance.dag_id, task_ids=[instance.task_id], run_ids=[run_id])[run_id]
    return sum(state not in ENDED for state in states.values()) - 1  # without this task, which is done


def _count(name: str, value: float | None) -> None:
    if value is not None:
        stats.incr(name, value)  # type: ignore[arg-type]  # money has cents; the backends take them


def _gauge(name: str, value: float | None) -> None:
    if value is not None:
        stats.gauge(name, value)
