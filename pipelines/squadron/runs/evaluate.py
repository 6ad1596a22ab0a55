"""Evaluate: how well the generation of a plan answers the corpus's own questions."""

import logging
import time

from squadron.dataflow.cached_vectors import opened_cache
from squadron.generations.catalog import Generations
from squadron.generations.measuring import Asking
from squadron.runs.quality_gate import figures_before, unsound_rows
from squadron.runs.results import Evaluation, Plan
from squadron.settings.schema import Settings
from squadron.staging import shards as staging

log = logging.getLogger(__name__)


def evaluate(settings: Settings, plan: Plan, generations: Generations | None = None) -> Evaluation:
    """Ask the generation the corpus's own questions, or probes, and read some of its new rows back.

    Where nothing has changed, the recorded figures stand. Whether they are good enough is for the gate to say.
    """
    started = time.monotonic()
    catalog = Generations.of(settings) if generations is None else generations
    record = catalog.planned(plan.generation, plan.run_id)
    unchanged = not plan.to_embed and not plan.deleted
    reused = unchanged and record.metrics is not None and record.questions_digest == plan.questions_digest
    if reused and plan.generation == plan.live:
        log.info("nothing changed since %s was evaluated: its figures stand", plan.generation)
        question_count = plan.questions if record.questions is None else record.questions
        return Evaluation(record.metrics or {}, {}, [], question_count, plan.asked, True, time.monotonic() - started)
    questions = staging.read_table(f"{plan.folder}/questions.parquet")
    asking = Asking.of(catalog.graph, questions, opened_cache(settings, catalog.graph, "query"))
    metrics = (record.metrics or {}) if reused else asking.measured(catalog.table(plan.generation))
    before = figures_before(settings, catalog, plan, asking, questions)
    unsound = unsound_rows(catalog, plan)
    if settings.gate.approval and plan.generation != plan.live:
        catalog.change(plan.generation, plan.run_id, awaiting_approval=True)
    question_count = asking.questions.num_rows
    return Evaluation(metrics, before, unsound, question_count, plan.asked, reused, time.monotonic() - started)
