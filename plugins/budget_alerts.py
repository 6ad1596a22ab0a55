"""Budget alerts: what can be called when 50, 80 and 100 % of a budget is spent.

The Airflow Variable `budget_alert` names the callable, e.g. `budget_alerts.post`, or a notifier in a module of yours.
It is called as Airflow calls a task's callbacks, with the context; `context["budget"]` holds collection, run_id, limit
(the setting), fraction, spent and allowed, and a notifier's templates find them under `budget`. A run that the budget
stops has a failed task: `run_alerts.py` announces it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping

    from squadron.runs.budget import BudgetShare

CONNECTION = "budget_alerts"
TIMEOUT_SECONDS = 10


def text(budget: BudgetShare) -> str:
    """The alert as a sentence."""
    share = f"{budget['fraction']:.0%} of {budget['limit']}"
    return f"{budget['collection']}: {share} is spent, {budget['spent']:,.10g} of {budget['allowed']:,.10g}"


def post(context: Mapping[str, Any]) -> None:
    """Post `{"text": ...}`, as the webhooks of Slack and Mattermost want it.

    The address is the password of the Connection `budget_alerts`: whoever knows it may post, so it is a secret.
    """
    send(CONNECTION, text(context["budget"]))


def send(connection: str, line: str) -> None:
    """Post a line of text to the webhook whose address is the password of an Airflow Connection."""
    import json
    import urllib.request

    from airflow.sdk import BaseHook

    address = BaseHook.get_connection(connection).password or ""
    if not address.startswith(("https://", "http://")):
        raise ValueError(f"Connection {connection!r} has no address: wanted the webhook's URL as its password")
    body = json.dumps({"text": line}).encode()
    request = urllib.request.Request(address, body, {"Content-Type": "application/json"})  # noqa: S310 - see above
    with urllib.request.urlopen(request, timeout=TIMEOUT_SECONDS):  # noqa: S310
        pass
