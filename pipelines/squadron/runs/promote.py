"""Promote: the gate is asked, and readers see the generation; or a change in place is taken back."""

import logging
import time

from squadron.cache.files import evict
from squadron.dataflow.driver import shared_graph
from squadron.generations.catalog import (
    Promotion,
    collect_generations,
    describe,
    move_live,
    now,
    planned_generation,
)
from squadron.runs.quality_gate import pass_gate, taken_back
from squadron.runs.results import Evaluation, Plan
from squadron.settings.schema import Settings
from squadron.staging import shards as staging

log = logging.getLogger(__name__)


def promote(settings: Settings, plan: Plan, evaluation: Evaluation) -> Promotion:
    """Make the generation live if it is good enough, record its figures, and drop generations beyond retention.

    Raises GateError when recall@10 is too low, StaleLiveError when another run moved the pointer, GuardError when
    another run has planned for the generation since.
    """
    started = time.monotonic()
    graph = shared_graph(settings)
    rolled_back = planned_generation(graph, plan.generation, plan.run_id).get("rolled_back_at")
    staging.remove(plan.folder)
    pass_gate(settings, graph, plan, evaluation)
    describe(
        graph,
        plan.generation,
        metrics=evaluation.metrics,
        questions=evaluation.questions,
        questions_digest=plan.questions_digest,
        measured_digest=plan.questions_digest,
        base_version=None,
        updated_at=now(),
    )
    held = None
    if plan.generation != plan.live:
        if rolled_back:
            held = f"{plan.generation} was rolled back at {rolled_back}: `promote {plan.generation}` makes it live"
            log.warning("not promoted: %s", held)
        else:
            move_live(graph, plan.live, plan.generation)
            log.info("%s is live in %s, %s before", plan.generation, plan.collection, plan.live)
    collected = [] if held else collect_generations(graph, settings)
    if settings.cache.path and settings.cache.max_age_days:
        evict(settings.cache.path, settings.cache.max_age_days)
    pointer = graph.value("live_generation")
    return Promotion(
        live=pointer and pointer.generation,
        previous=pointer and pointer.previous,
        promoted=plan.generation != plan.live and not held,
        held=held,
        collected=collected,
        seconds=time.monotonic() - started,
    )


def withdraw(settings: Settings, plan: Plan) -> str:
    """Undo what a run has changed in place, because a person says so; what came of it, in a sentence."""
    graph = shared_graph(settings)
    planned_generation(graph, plan.generation, plan.run_id)
    return taken_back(graph, plan)
