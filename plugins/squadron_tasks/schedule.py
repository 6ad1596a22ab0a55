"""Schedule: when the DAG of a collection runs, and by when a run has to be done."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING

from airflow.sdk import Asset, AsyncCallback, DeadlineAlert  # type: ignore[attr-defined]  # not in Airflow's stubs
from croniter import croniter

from run_alerts import SinceQueued  # of plugins/
from squadron.errors import SettingsError

if TYPE_CHECKING:
    from squadron.settings.schema import Settings

ASSET = "asset:"
PRESETS = ("@once", "@hourly", "@daily", "@weekly", "@monthly", "@quarterly", "@yearly", "@continuous")


def schedule_of(schedule: str | None) -> str | list[Asset] | None:
    """What a DAG takes as its schedule. Raises SettingsError for what Airflow does not know.

    `schedule`: a cron expression, one of Airflow's presets, `asset:` and an asset's name, or nothing.
    """
    if not schedule:
        return None
    if schedule.startswith(ASSET):
        return [Asset(schedule.removeprefix(ASSET))]
    if schedule not in PRESETS and not croniter.is_valid(schedule):
        raise SettingsError(
            f"schedule = {schedule!r}: wanted a cron expression like '0 3 * * *', one of {', '.join(PRESETS)}, "
            f"{ASSET}NAME for after the asset of that name was updated, or nothing"
        )
    return schedule


def deadline_of(settings: Settings) -> DeadlineAlert | None:
    """The alert that the triggerer raises when a run is not done `deadline_hours` after it was queued."""
    if settings.deadline_hours is None:
        return None
    interval, callback = timedelta(hours=settings.deadline_hours), AsyncCallback("run_alerts.missed")  # of plugins/
    return DeadlineAlert(SinceQueued(), interval, callback, name="done in time")
