"""Gate: what a generation must reach before readers see it."""

from typing import Any

from pipelines.errors import GateError
from pipelines.outcomes import Evaluation, Plan
from pipelines.settings import Settings


def pass_gate(settings: Settings, evaluation: Evaluation, plan: Plan, live: dict[str, Any]) -> None:
    recall = evaluation.metrics.get("recall_at_10")
    if recall is None:
        return
    refused = f"{plan.generation} is kept for inspection, {plan.live or 'nothing'} stays live"
    if recall < settings.gate.min_recall_at_10:
        raise GateError(
            f"recall@10 is {recall:.4f} on {evaluation.questions} questions, gate.min_recall_at_10 wants "
            f"{settings.gate.min_recall_at_10:.4f}: {refused}"
        )
    before = live.get("metrics", {}).get("recall_at_10")
    if before is not None and before - recall > settings.gate.max_drop:
        raise GateError(
            f"recall@10 fell from {before:.4f} ({plan.live}) to {recall:.4f}, "
            f"gate.max_drop allows {settings.gate.max_drop:.4f}: {refused}"
        )
