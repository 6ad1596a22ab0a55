"""Gate: what a generation must show before readers get to see it, and what is done when it does not.

A candidate beside the live generation is compared with it on the same questions, and left alone when it is worse.
A generation that is live already was changed in place: where the store keeps earlier versions, the one from before
the run is restored.
"""

import logging
from typing import Any

import numpy as np
import pyarrow as pa

from pipelines import staging
from pipelines.catalog import describe, opened
from pipelines.dataflow.vectors import vectors_of
from pipelines.errors import GateError, SquadronError
from pipelines.graph import Graph
from pipelines.outcomes import Evaluation, Plan
from pipelines.searching import live_graph, measured
from pipelines.settings import Settings

log = logging.getLogger(__name__)

ROWS_CHECKED = 256


def unsound_rows(graph: Graph, plan: Plan) -> list[str]:
    """What is wrong with the rows that this run wrote, by a sample of them read back: not finite, not of length
    1. Passages in quarantine are not there, and are not missed: rows were counted before.
    """
    ids: list[str] = []
    for shard in plan.shards:
        column = staging.read_table(shard.path, ["id"])["id"]
        share = max(1, ROWS_CHECKED * shard.passages // sum(other.passages for other in plan.shards))
        ids += column.take(np.linspace(0, len(column) - 1, min(share, len(column))).astype(np.int64)).to_pylist()
    if not ids:
        return []
    wanted = pa.array(ids, pa.string())
    rows = graph.value("stored_rows", collection=opened(graph, plan.generation), wanted_ids=wanted)
    lengths = np.linalg.norm(vectors_of(rows), axis=1)
    wrong = np.flatnonzero(~(np.abs(lengths - 1) < 1e-2))
    return [f"the stored vector of {rows['id'][int(row)]} has length {lengths[row]}, wanted 1" for row in wrong]


def live_metrics(settings: Settings, plan: Plan, questions: pa.Table, recorded: dict[str, Any]) -> dict[str, float]:
    """How the generation that was live at the plan answers these questions; `recorded` describes it.

    Its recorded figures stand when they are of the same questions, and when it is the one that was changed in place.
    Else it is asked, as it was embedded. Where that is not possible any more, say because the key of its service
    was withdrawn, the recorded figures must do, with a warning.
    """
    figures: dict[str, float] = recorded.get("metrics", {})
    if plan.live in (None, plan.generation) or recorded.get("questions_digest") == plan.questions_digest:
        return figures
    try:
        graph, live = live_graph(settings)
        log.info("%s is asked the questions of this corpus, to be compared with %s", live, plan.generation)
        return measured(graph, live, questions)
    except SquadronError as error:
        log.warning("%s cannot be asked these questions, its recorded figures must do: %s", plan.live, error)
        return figures


def pass_gate(settings: Settings, graph: Graph, plan: Plan, evaluation: Evaluation) -> None:
    """Raise GateError, with the reason and the figures, when the generation must not be, or stay, live."""
    reason = _objection(settings, plan, evaluation)
    if reason is None:
        return
    raise GateError(f"{reason}: {_answer(graph, plan)}")


def _objection(settings: Settings, plan: Plan, evaluation: Evaluation) -> str | None:
    gate, asked = settings.gate, f"{evaluation.questions} {evaluation.asked}"
    if evaluation.unsound:
        return f"{len(evaluation.unsound)} of the rows read back are not sound, the first: {evaluation.unsound[0]}"
    recall, before = evaluation.metrics.get("recall_at_10"), evaluation.live_metrics.get("recall_at_10")
    if recall is None or evaluation.reused:
        return None
    if recall < gate.min_recall_at_10:
        return f"recall@10 is {recall:.4f} on {asked}, gate.min_recall_at_10 wants {gate.min_recall_at_10:.4f}"
    if before is not None and before - recall > gate.max_drop:
        return (
            f"recall@10 fell from {before:.4f} ({plan.live}) to {recall:.4f} on {asked}, "
            f"gate.max_drop allows {gate.max_drop:.4f}"
        )
    return None


def _answer(graph: Graph, plan: Plan) -> str:
    """What was done about it."""
    if plan.generation != plan.live:
        return f"{plan.generation} is kept for inspection, {plan.live or 'nothing'} stays live"
    if plan.version is None or not (plan.to_embed or plan.deleted):
        return f"{plan.generation} is live as it is, for it keeps no earlier version. `rollback` leaves it"
    rows = graph.value("restored", collection=opened(graph, plan.generation), earlier_version=plan.version)
    describe(graph, plan.generation, rows=rows, questions_digest=None)
    return f"{plan.generation} holds again the {rows} rows from before this run"
