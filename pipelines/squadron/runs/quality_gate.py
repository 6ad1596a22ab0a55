"""Gate: what a generation must show before readers get to see it, and what is done when it does not.

A candidate beside the live generation is compared with it on the same questions, and left alone when it is worse.
A generation that is live already was changed in place: where the store keeps earlier versions, the one from before
the run is restored.
"""

import logging

import numpy as np
import pyarrow as pa

from squadron.errors import GateError, SquadronError, StoreError
from squadron.generations.catalog import Generations
from squadron.generations.measuring import Asking
from squadron.generations.record import GenerationRecord, now
from squadron.generations.search import live_catalog
from squadron.runs.results import Evaluation, Plan
from squadron.settings.schema import Settings
from squadron.staging import shards as staging
from squadron.stores.record_schema import vectors_of

log = logging.getLogger(__name__)

ROWS_CHECKED = 256
ROUNDING = 1e-9
"""By how much a difference of two recalls may miss its value: .9 - .85 is more than .05."""
LEAST_ANSWERABLE = 0.5
"""The share of the questions that must be asked for the figures to mean something."""


def unsound_rows(catalog: Generations, plan: Plan) -> list[str]:
    """What is wrong with the rows that this run wrote, by a sample of them read back: not finite, not of length
    1. Passages in quarantine are not there, and are not missed: rows were counted before.
    """
    ids = staging.planned_ids(plan.folder)
    if not len(ids):
        return []
    sample = np.linspace(0, len(ids) - 1, min(ROWS_CHECKED, len(ids))).astype(np.int64)
    sampled_ids = ids.take(pa.array(sample))
    rows = catalog.graph.value("stored_rows", generation_table=catalog.table(plan.generation), wanted_ids=sampled_ids)
    lengths = np.linalg.norm(vectors_of(rows), axis=1)
    wrong = np.flatnonzero(~(np.abs(lengths - 1) < 1e-2))
    return [f"the stored vector of {rows['id'][int(row)]} has length {lengths[row]}, wanted 1" for row in wrong]


def figures_before(
    settings: Settings, catalog: Generations, plan: Plan, asking: Asking, questions: pa.Table
) -> dict[str, float]:
    """How what was live at the plan answers these questions, to be compared with what is to be live.

    A generation beside the candidate is asked as it was embedded. Where that is not possible any more, say because
    the key of its service was withdrawn, its recorded figures must do, with a warning. Of a generation that was
    changed in place it is its version from before that is asked; where the store keeps none, the recorded figures do
    if they are of the same questions. Recorded figures of the same rows and questions stand. Empty: there is nothing
    to compare with.
    """
    if plan.live is None or plan.live not in catalog:
        return {}
    record = catalog[plan.live]
    figures = record.metrics or {}
    if plan.live == plan.generation:
        return _figures_in_place(catalog, plan, asking, record)
    if record.questions_digest == plan.questions_digest:
        return figures
    try:
        readers, live = live_catalog(settings)
        log.info("%s is asked the questions of this corpus, to be compared with %s", live, plan.generation)
        return Asking.of(readers.graph, questions).measured(readers.table(live))
    except SquadronError as error:
        log.warning("%s cannot be asked these questions, its recorded figures must do: %s", plan.live, error)
        return figures


def pass_gate(settings: Settings, catalog: Generations, plan: Plan, evaluation: Evaluation) -> None:
    """Raise GateError, with the reason and the figures, when the generation must not be, or stay, live."""
    if reason := _objection(settings, plan, evaluation):
        raise GateError(f"{reason}: {taken_back(catalog, plan)}")


def taken_back(catalog: Generations, plan: Plan) -> str:
    """Put a generation that was changed in place back to what it was before, where that can be; what came of it."""
    if plan.generation != plan.live:
        catalog.change(plan.generation, awaiting_approval=False, refused_at=now())
        return f"{plan.generation} is kept for inspection, {plan.live or 'nothing'} stays live"
    if plan.version is None:
        return f"{plan.generation} is live as it is, for its store keeps no earlier version. `rollback` leaves it"
    if not _has_changed(catalog, plan):
        return f"{plan.generation} is live as it was before, nothing of it was changed. `rollback` leaves it"
    graph, table = catalog.graph, catalog.table(plan.generation)
    try:
        rows = graph.value("restored", generation_table=table, earlier_version=plan.version)
    except StoreError as error:
        return f"{plan.generation} is live as it is, for what it was before cannot be restored: {error}"
    stored = catalog.stored_documents(plan.generation)
    restored = {"rows": rows, "documents": len(stored.digests), "planned_by": plan.run_id, "taken_back": True}
    catalog.change(plan.generation, **restored, index=None, questions_digest=None, base_version=None)
    return f"{plan.generation} holds again the {rows} rows from before it was changed"


def _figures_in_place(catalog: Generations, plan: Plan, asking: Asking, record: GenerationRecord) -> dict[str, float]:
    if plan.version is not None and not _has_changed(catalog, plan):
        return {}
    if record.measured_digest == plan.questions_digest:
        return record.metrics or {}
    if plan.version is None:
        log.info("%s was measured on other questions before: its figures are not compared", plan.generation)
        return {}
    try:
        before = asking.graph.value("earlier_table", generation=plan.generation, earlier_version=plan.version)
    except StoreError as error:
        log.warning("what %s was before cannot be asked, its answers are not compared: %s", plan.generation, error)
        return {}
    return asking.measured(before)


def _has_changed(catalog: Generations, plan: Plan) -> bool:
    """Whether the generation is another version now than the one to return to."""
    version: int | None = catalog.graph.value("version", generation_table=catalog.table(plan.generation))
    return version != plan.version


def _objection(settings: Settings, plan: Plan, evaluation: Evaluation) -> str | None:
    gate, asked = settings.gate, f"{evaluation.questions} {evaluation.asked}"
    if evaluation.unsound:
        return f"{len(evaluation.unsound)} of the rows read back are not sound, the first: {evaluation.unsound[0]}"
    if evaluation.questions < LEAST_ANSWERABLE * plan.questions:
        return (
            f"{evaluation.questions} of the {plan.questions} {plan.asked} could be asked, for the embedding service "
            "refused the others: nobody can tell how good the answers are"
        )
    recall, before = evaluation.metrics.get("recall_at_10"), evaluation.live_metrics.get("recall_at_10")
    if recall is None or (evaluation.reused and plan.generation == plan.live):
        return None
    if recall < gate.min_recall_at_10 - ROUNDING:
        return f"recall@10 is {recall:.4f} on {asked}, gate.min_recall_at_10 wants {gate.min_recall_at_10:.4f}"
    if before is not None and before - recall > gate.max_drop + ROUNDING:
        return (
            f"recall@10 fell from {before:.4f} ({plan.live}) to {recall:.4f} on {asked}, "
            f"gate.max_drop allows {gate.max_drop:.4f}"
        )
    return None
