"""Report: what a run did, as one plain object; the same for the command line and the DAG."""

from dataclasses import asdict
from typing import TypedDict

from squadron.generations.live_pointer import Promotion
from squadron.runs.results import Evaluation, Finished, Ingested, Plan

METRIC_NAMES = ("recall_at_1", "recall_at_5", "recall_at_10", "mrr_at_10", "ndcg_at_10")


class RunCounts(TypedDict):
    """Of passages, but for `documents` and `quarantined`."""

    documents: int
    passages: int
    unchanged: int
    embedded: int
    cached: int
    written: int
    deleted: int
    quarantined: int


class RunReport(TypedDict):
    """What a run did, as JSON; `run_report` says what the fields mean."""

    run_id: str
    collection: str
    generation: str
    live: str | None
    previous: str | None
    promoted: bool
    held: str | None
    held_back: int
    rows: int
    collected: list[str]
    live_sync: dict[str, str | int | float] | None
    """What was done to the live generation, when the run was about another: generation, written, deleted, seconds."""
    counts: RunCounts
    metrics: dict[str, float | None]
    questions: int
    asked: str
    reused: bool
    example_question: str | None
    seconds: dict[str, float]
    passages_per_second: float | None
    tokens: int
    estimated_tokens: int
    cost: float | None
    estimates_are_upper_bounds: bool
    billed_tokens: int
    billed_cost: float | None
    endpoints: dict[str, dict[str, int]]
    device: str | None
    index: str
    vector_space: dict[str, str]
    source_revision: str | None


def run_report(
    plan: Plan, ingested: Ingested, finished: Finished, evaluation: Evaluation, promotion: Promotion
) -> RunReport:
    """The report of a whole run.

    `counts` are of passages, but for `documents` and `quarantined` (rows and files that cannot be read, rows without a
    text, documents with several versions, and passages that the service refused);
    unchanged + embedded + cached + refused = passages. `held_back` rows are not in the corpus, and stay: some of it
    cannot be read (these are among the unchanged ones), or the service refused their documents' new versions. The next
    run that can read, or embed, it all deletes what has left the corpus. `rows` are those of the generation in the
    end. `seconds` are per stage; those of `ingest` are summed over shards. `metrics` are null for a corpus without
    questions. `cost` is in US dollars, by the tokens whose vectors were not cached; null when the price of the model is
    not known. That is the estimate of the plan; `billed_tokens` and `billed_cost` are what a remote service says it
    billed for the passages (questions are not among them), and `endpoints` is host -> requests `answered` and `failed`.
    """
    seconds = {
        "plan": plan.seconds,
        "ingest": ingested.seconds,
        "finish": finished.seconds,
        "evaluate": evaluation.seconds,
        "promote": promotion.seconds,
    }
    return {
        "run_id": plan.run_id,
        "collection": plan.collection,
        "generation": plan.generation,
        "live": promotion.live,
        "previous": promotion.previous,
        "promoted": promotion.promoted,
        "held": promotion.held,
        "held_back": plan.held_back + finished.held_back,
        "rows": finished.rows,
        "collected": promotion.collected,
        "live_sync": asdict(promotion.live_sync) if promotion.live_sync else None,
        "counts": {
            "documents": plan.documents,
            "passages": plan.passages,
            "unchanged": plan.unchanged,
            "embedded": ingested.embedded,
            "cached": ingested.cached,
            "written": ingested.written,
            "deleted": finished.deleted,
            "quarantined": plan.quarantined + ingested.quarantined,
        },
        "metrics": {name: evaluation.metrics.get(name) for name in METRIC_NAMES},
        "questions": evaluation.questions,
        "asked": evaluation.asked,
        "reused": evaluation.reused,
        "example_question": plan.example_question,
        "seconds": {stage: round(taken, 3) for stage, taken in seconds.items()},
        "passages_per_second": round(ingested.embedded / ingested.seconds, 1) if ingested.embedded else None,
        "tokens": ingested.tokens,
        "estimated_tokens": plan.estimated_tokens,
        "cost": plan.cost,
        "estimates_are_upper_bounds": plan.estimates_are_upper_bounds,
        "billed_tokens": ingested.billed_tokens,
        "billed_cost": ingested.billed_cost,
        "endpoints": ingested.endpoints,
        "device": ingested.device,
        "index": finished.index,
        "vector_space": plan.vector_space,
        "source_revision": plan.source_revision,
    }


class PlanCounts(TypedDict):
    """Of passages, but for `documents` and `quarantined`."""

    documents: int
    passages: int
    unchanged: int
    to_embed: int
    to_delete: int
    quarantined: int


class PlanReport(TypedDict):
    """What a run would do, as JSON."""

    collection: str
    generation: str
    live: str | None
    counts: PlanCounts
    held_back: int
    tokens: int
    estimated_tokens: int
    cost: float | None
    vector_space: dict[str, str]
    source_revision: str | None
    seconds: dict[str, float]
    in_batches: bool
    estimates_are_upper_bounds: bool


def plan_report(plan: Plan, in_batches: bool) -> PlanReport:
    """What a run would do."""
    return {
        "collection": plan.collection,
        "generation": plan.generation,
        "live": plan.live,
        "counts": {
            "documents": plan.documents,
            "passages": plan.passages,
            "unchanged": plan.unchanged,
            "to_embed": plan.to_embed,
            "to_delete": plan.deleted,
            "quarantined": plan.quarantined,
        },
        "held_back": plan.held_back,
        "tokens": plan.tokens,
        "estimated_tokens": plan.estimated_tokens,
        "cost": plan.cost,
        "estimates_are_upper_bounds": plan.estimates_are_upper_bounds,
        "vector_space": plan.vector_space,
        "source_revision": plan.source_revision,
        "seconds": {"plan": round(plan.seconds, 3)},
        "in_batches": in_batches,
    }
