"""Finish: delete what left the corpus, build the index, and see that every row is there.

It may be run again after a crash, as every step: rows are replaced, deletes repeat.
"""

import logging
import time

import numpy as np
import pyarrow as pa

from squadron.corpus import quarantine
from squadron.dataflow.changes import ID_DIGITS
from squadron.dataflow.digests import Digests, as_keys, from_hex
from squadron.errors import GuardError, StoreError
from squadron.generations.catalog import Generations
from squadron.runs.results import Finished, Plan
from squadron.settings.schema import Settings
from squadron.staging import shards as staging

log = logging.getLogger(__name__)

_NO_IDS = pa.array([], pa.string())


def finish(settings: Settings, plan: Plan, quarantined: int = 0, generations: Generations | None = None) -> Finished:
    """Delete what left the corpus, build the index, and see that every row is there.

    `quarantined`: passages that the embedding service refused; the version before of their documents stays. Raises
    GuardError, with nothing deleted, when they are too many, or when a new generation would lack documents of the live
    one for them, and StoreError when the generation does not hold exactly the plan's other passages.
    """
    started = time.monotonic()
    allowed = settings.guard.max_quarantined_fraction
    if quarantined > allowed * plan.passages:
        raise GuardError(
            f"the embedding service refused {quarantined} of {plan.passages} passages: guard.max_quarantined_fraction "
            f"allows {allowed:.1%}. `squadron quarantine` lists them, and why. Nothing was deleted or "
            "promoted"
        )
    catalog = Generations.of(settings) if generations is None else generations
    graph, record = catalog.graph, catalog.planned(plan.generation, plan.run_id)
    table = catalog.table(plan.generation)
    expired = staging.read_table(f"{plan.folder}/expired.parquet")["id"].combine_chunks() if plan.deleted else _NO_IDS
    # The rows of a document whose new version is not whole are what readers have.
    unwritten = _unwritten(catalog, plan, expired, quarantined) if quarantined or plan.deleted else Digests.joined([])
    held_back = np.isin(_documents(expired).identities(), unwritten.identities())
    if len(expired):
        graph.value("rows_deleted", generation_table=table, expired_ids=expired.filter(pa.array(~held_back)))
    rows = graph.value("row_count", generation_table=table)
    _check_count(plan, rows, plan.passages - len(unwritten) + int(held_back.sum()))
    index = record.index
    if plan.to_embed or plan.deleted or not index:
        index = graph.value("index_built", generation_table=table, kept_version=record.base_version)
    changed = {"rows": rows, "documents": plan.documents, "index": index, "source_revision": plan.source_revision}
    catalog.change(plan.generation, plan.run_id, **changed)
    quarantine.settle(settings, plan.run_id)
    deleted, stay = len(expired) - int(held_back.sum()), int(held_back.sum())
    if stay:
        log.warning("%d rows of documents stay, whose new versions the embedding service refused", stay)
    log.info("%s holds %d rows, as planned; %d deleted; index: %s", plan.generation, rows, deleted, index)
    return Finished(rows, deleted, index, time.monotonic() - started, stay)


def _check_count(plan: Plan, rows: int, planned_rows: int, consequence: str = "it was not promoted") -> None:
    if rows != planned_rows:
        raise StoreError(
            f"generation {plan.generation!r} holds {rows} rows, the plan wants {planned_rows}: "
            f"{consequence}. Ingest again: what is missing is written, what is too much deleted"
        )


def _unwritten(catalog: Generations, plan: Plan, expired: pa.Array, quarantined: int) -> Digests:
    """The documents of the planned passages that the store lacks, one for each passage.

    It is asked before anything is deleted: what takes the place of the expired rows has to be there. Raises StoreError
    when more are lacking than the service refused, or other rows are there than the plan and the expired ones,
    GuardError when the live generation has such a document, and this one is to take its place.
    """
    planned = from_hex(staging.planned_ids(plan.folder), ID_DIGITS)[0]
    stored = catalog.stored_documents(plan.generation)
    stored_keys = as_keys(stored.ids)
    lacking = Digests.read(planned[~np.isin(as_keys(planned), stored_keys)])
    if len(lacking) > quarantined:
        live = plan.generation == plan.live
        consequence = "nothing was deleted, and readers have what they had" if live else "it was not promoted"
        raise StoreError(
            f"generation {plan.generation!r} lacks {len(lacking)} of the {len(planned)} planned passages, the service "
            f"refused {quarantined}: {consequence}. Was a shard skipped, or marked as done? Ingest again: what is "
            "missing is written"
        )
    still_stored = int(np.isin(as_keys(from_hex(expired, ID_DIGITS)[0]), stored_keys).sum())
    _check_count(plan, len(stored.ids) - still_stored, plan.passages - len(lacking), "nothing was deleted")
    if plan.live and plan.live in catalog and plan.live != plan.generation:
        live_documents = catalog.stored_documents(plan.live).digests.identities()
        if missing_count := len(np.intersect1d(live_documents, lacking.identities())):
            raise GuardError(
                f"{plan.generation} would lack {missing_count} documents of the live {plan.live}, for the embedding "
                "service refused them: `squadron quarantine` lists them, and why. Mend them, or take them out of "
                f"the corpus; `promote --force {plan.generation}` makes it live all the same"
            )
    return lacking


def _documents(ids: pa.Array) -> Digests:
    """Of passages, the documents' digests."""
    return Digests.read(from_hex(ids, ID_DIGITS)[0])
