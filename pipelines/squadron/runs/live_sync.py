"""Live sync: what readers see is kept in step with the corpus, whatever generation a run was about.

A run builds, or keeps up to date, the generation of today's settings. Readers may see another: it was rolled back, the
gate refused it, a person rejected it. Then the live generation is brought in step by its own recorded settings, and
documents that left the corpus leave every generation that is kept for a rollback.
"""

import logging
import time
from dataclasses import dataclass, replace
from functools import partial

import numpy as np
import pyarrow as pa

from squadron.corpus.reading import Corpus
from squadron.dataflow.digests import to_hex
from squadron.dataflow.vector_space import generation_name, vector_space
from squadron.errors import GateError, SquadronError, StoreError
from squadron.generations.catalog import Generations
from squadron.generations.live_pointer import LiveSync, Promotion
from squadron.generations.search import live_settings
from squadron.runs.promote import promote, withdraw
from squadron.runs.results import Evaluation, Plan
from squadron.runs.steps import run_steps
from squadron.settings.schema import Settings

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Behind:
    """How far a generation is from the corpus, in documents."""

    lacking: int
    """That it does not hold, or holds in another version."""
    left: int
    """That it holds, and the corpus does not."""


def promote_in_step(
    settings: Settings, plan: Plan, evaluation: Evaluation, generations: Generations | None = None
) -> Promotion:
    """Promote the generation of a plan; where it is not to be live, bring the live one in step.

    Raises what `promote` raises, after the live generation was brought in step where the gate refused; and StoreError,
    which says how far behind the live generation is, where it could not be.
    """
    catalog = Generations.of(settings) if generations is None else generations
    try:
        promotion = promote(settings, plan, evaluation, catalog)
    except GateError:
        if plan.live and plan.live != plan.generation:
            sync_live(settings, plan.run_id)
        raise
    if promotion.held:
        sync = sync_live(settings, plan.run_id)
        promotion = replace(promotion, live_sync=sync, seconds=promotion.seconds + sync.seconds)
        catalog.read()  # the live generation's record is another now, and the sync may have taken long
    if catalog[plan.generation].withdrawal_due:  # the record says so, in case a run dies before it comes here
        done = _withdraw_from_kept(settings, catalog, plan.generation)
        catalog.change(plan.generation, withdrawal_due=not done)
    return promotion


def withdraw_in_step(settings: Settings, plan: Plan) -> str:
    """As `withdraw`; where the generation was not live, the live one is brought in step."""
    outcome = withdraw(settings, plan)
    if plan.live and plan.live != plan.generation:
        sync_live(settings, plan.run_id)
    return outcome


def sync_live(settings: Settings, run_id: str) -> LiveSync:
    """Bring the live generation in step with the corpus, by the settings that it was made with.

    Raises StoreError, which says how far behind it is, when that cannot be done.
    """
    started = time.monotonic()
    own, live = live_settings(settings)
    log.info("%s is what readers see: it is brought in step, too", live)
    try:
        if generation_name(own.collection, space := vector_space(own)) != live:
            raise StoreError(f"what is at hand makes vectors of another space than its own, {space}")
        steps = run_steps(own, f"{run_id} (live)", partial(promote, collect=False))
    except SquadronError as error:
        behind = behind_corpus(settings, live)
        raise StoreError(
            f"{live} is what readers see, and could not be brought in step with the corpus: {error}. It lacks "
            f"{behind.lacking} documents of the corpus, or their newest versions, and holds {behind.left} that left it"
        ) from error
    return LiveSync(live, steps.ingested.written, steps.finished.deleted, time.monotonic() - started)


def behind_corpus(settings: Settings, generation: str) -> Behind:
    """How far a generation is from the configured corpus. Reads all of it; embeds nothing."""
    catalog = Generations.of(settings)
    stored = catalog.stored_documents(generation)
    corpus = Corpus(settings, catalog.graph, stored)
    lacking = sum(documents.num_rows for documents in corpus.changes())
    return Behind(lacking, int((~(corpus.seen | corpus.withheld(stored.digests))).sum()))


def _withdraw_from_kept(settings: Settings, catalog: Generations, generation: str) -> bool:
    """Delete, from every other generation, the rows of documents that the generation of this run does not hold.

    Whether that was done everywhere: a generation that would lose more of its documents than
    `guard.max_deleted_fraction` allows stays as it is, to be returned to.
    """
    others = [name for name, record in catalog.items() if name not in (generation, catalog.live) and record.is_whole]
    allowed, done = settings.guard.max_deleted_fraction, True
    if not others:
        return done
    present = catalog.stored_documents(generation).digests.identities()
    for name in others:
        stored = catalog.stored_documents(name)
        left = ~np.isin(stored.digests.identities(), present)
        gone = left[stored.document_of]
        if not gone.any():
            continue
        if left.mean() > allowed:
            log.warning(
                "%s, which is kept, holds %d documents that left the corpus, %.1f %% of its own; "
                "guard.max_deleted_fraction allows %.1f %%: it stays as it is",
                *(name, left.sum(), 100 * left.mean(), 100 * allowed),
            )
            done = False
            continue
        expired: pa.Array = to_hex(stored.ids[gone])
        graph, table = catalog.graph, catalog.table(name)
        deleted = graph.value("rows_deleted", generation_table=table, expired_ids=expired)
        rows = graph.value("row_count", generation_table=table)
        catalog.change(name, rows=rows, documents=None, questions_digest=None)
        log.info("%d rows of documents that left the corpus were deleted from %s, which is kept", deleted, name)
    return done
