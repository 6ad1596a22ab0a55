"""Promote: the gate is asked, and readers see the generation; or a change in place is taken back."""

import logging
import time

from squadron.cache.files import evict
from squadron.generations.catalog import Generations
from squadron.generations.live_pointer import Promotion, promote_from
from squadron.generations.record import now
from squadron.generations.retention import collect_generations
from squadron.runs.quality_gate import pass_gate, taken_back
from squadron.runs.results import Evaluation, Plan
from squadron.settings.schema import Settings
from squadron.staging import shards as staging

log = logging.getLogger(__name__)


def promote(
    settings: Settings,
    plan: Plan,
    evaluation: Evaluation,
    generations: Generations | None = None,
    collect: bool = True,
) -> Promotion:
    """Make the generation live if it is good enough, record its figures, and drop generations beyond retention.

    `collect`: whether any are dropped. What a run keeps beside the live generation is not for its live sync to judge.
    Raises GateError when recall@10 is too low, StaleLiveError when another run moved the pointer, GuardError when
    another run has planned for the generation since.
    """
    started = time.monotonic()
    catalog = Generations.of(settings) if generations is None else generations
    catalog.planned(plan.generation, plan.run_id)
    staging.remove(plan.folder)
    pass_gate(settings, catalog, plan, evaluation)
    record = catalog.change(
        plan.generation,
        plan.run_id,
        metrics=evaluation.metrics,
        questions=evaluation.questions,
        questions_digest=plan.questions_digest,
        measured_digest=plan.questions_digest,
        base_version=None,
        updated_at=now(),
        awaiting_approval=False,
        refused_at=None,
    )
    held_reason = None
    if plan.generation != plan.live:
        if record.rolled_back_at:
            held_reason = (
                f"{plan.generation} was rolled back at {record.rolled_back_at}: "
                f"`promote {plan.generation}` makes it live"
            )
            log.warning("not promoted: %s", held_reason)
        else:
            promote_from(catalog, plan.live, plan.generation)
            log.info("%s is live in %s, %s before", plan.generation, plan.collection, plan.live)
    collected = collect_generations(catalog, settings) if collect and not held_reason else []
    if settings.cache.path and settings.cache.max_age_days:
        evict(settings.cache.path, settings.cache.max_age_days)
    return Promotion(
        live=catalog.live,
        previous=catalog.pointer.previous if catalog.pointer else None,
        promoted=plan.generation != plan.live and not held_reason,
        held=held_reason,
        collected=collected,
        seconds=time.monotonic() - started,
    )


def withdraw(settings: Settings, plan: Plan) -> str:
    """Undo what a run has changed in place, because a person says so; what came of it, in a sentence."""
    catalog = Generations.of(settings)
    catalog.planned(plan.generation, plan.run_id)
    return taken_back(catalog, plan)
