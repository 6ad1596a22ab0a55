"""Alerts: what a task calls when a share of its run's budget is spent."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from airflow.sdk import get_current_context

from run_alerts import call_named  # of plugins/

if TYPE_CHECKING:
    from squadron.runs.budget import BudgetShare

log = logging.getLogger("squadron.dag")


def budget_alert(share: BudgetShare) -> None:
    """Call what the Variable `budget_alert` names, as Airflow calls callbacks; `context["budget"]` is the share.

    A callback that fails is logged, as Airflow does. The run goes on: its vectors are paid for.
    """
    try:
        call_named("budget_alert", {**get_current_context(), "budget": share})
    except Exception:
        log.exception("the callback that Variable 'budget_alert' names failed")
