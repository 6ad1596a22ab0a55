"""Verifying: the live generation against the corpus, row by row; and mending what is not as it should be.

An ingest believes the ids in the store, because ids are made of content. This looks behind them: are the columns of
each row those of its passage, and are the vectors those that the model gives? Somebody may have written to the store
beside Squadron, or a disk may have lost bits.
"""

import logging
import time
from collections.abc import Iterator
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from squadron.cache.vectors import EmbeddingCache
from squadron.corpus.guards import check_corpus
from squadron.corpus.quarantine import Findings, listed
from squadron.corpus.reading import Corpus
from squadron.dataflow.cached_vectors import cached_vectors, opened_cache
from squadron.dataflow.changes import ID_DIGITS, StoredDocuments
from squadron.dataflow.digests import Digests, as_keys, from_hex, to_hex
from squadron.dataflow.driver import Graph
from squadron.embeddings.remote.failures import RefusedTextsError
from squadron.errors import GuardError
from squadron.generations.catalog import Generations
from squadron.generations.model_canary import check_model, probe_vectors
from squadron.generations.search import live_catalog
from squadron.process.progress import Progress
from squadron.runs.budget import affordable_cost
from squadron.runs.collection_lock import only_run
from squadron.settings.schema import Settings
from squadron.sources.rows import Unreadable
from squadron.stores.record_schema import vectors_of

log = logging.getLogger(__name__)

LEAST_COSINE = 0.99
"""Of a stored vector to the one that the model gives now, which another machine may round otherwise."""
EXAMPLES = 5
VECTORS_CHECKED = 500
REPAIR = "verify --repair"
"""What a repair is called where runs are named."""


def verify(settings: Settings, repair: bool = False, vectors: int | None = None) -> dict[str, Any]:
    """Compare the live generation with the corpus; with `repair`, write and delete what is needed to make them equal.

    All ids and columns are compared; vectors are made anew, past the cache, for about so many passages (500), others
    each time. Returns `sound`, `counts` (documents, passages, missing, refused, extra, altered, held_back,
    vectors_checked, written, deleted, left), `examples` of ids, and how far each other generation is from the corpus.
    Rows that may be of what cannot be read of the corpus, and those of documents whose new versions the service
    refused, are `held_back`, and not extra. Passages that are missing since the service refused them, as the
    quarantine says, are `refused` too, and no reason not to be sound. `left`: what could not be mended, for the
    service refused it; that is then in the quarantine.
    Raises, before anything is written, what an ingest raises for a corpus that cannot be read, is empty, or lacks more
    documents than `guard.max_deleted_fraction` allows, for a model that is not the one which made the generation, and
    for more tokens than the budget allows.
    """
    if repair:
        with only_run(settings):
            return _verified(settings, True, vectors)
    return _verified(settings, False, vectors)


def _verified(settings: Settings, repair: bool, vectors: int | None) -> dict[str, Any]:
    started = time.monotonic()
    catalog, live = live_catalog(settings)
    graph, record = catalog.graph, catalog[live]
    checked = VECTORS_CHECKED if vectors is None else vectors
    if (repair or checked) and record.canary is not None:
        check_model(settings, probe_vectors(graph), record)
    table = graph.value("generation_table", generation=live)
    stored = graph.value("stored_documents", generation_table=table)
    repeated = _looked_over(settings, graph, stored, repair)
    findings = None
    if repair:
        findings = Findings(settings, REPAIR, "passages")
        Findings.forget(settings, REPAIR)
        # A plan made before is of rows that will be others.
        catalog.change(live, planned_by=REPAIR, repairing=True, taken_back=False)
    corpus = Corpus(settings, graph, graph.value("stored_documents", stored_ids=[]), repeated=repeated)
    comparison = _Comparison(settings, graph, table, stored.ids, checked, findings)
    deleted, progress = 0, Progress("verify", None, "passages")
    try:
        for passages in _passages(corpus, graph):
            comparison.add(passages)
            progress.add(passages.num_rows)
        check_corpus(settings, corpus, None)
        extra, held_back = comparison.unexplained(corpus)
        if repair and len(extra):
            _refuse_many(settings, len(extra), len(stored.ids))
            deleted = graph.value("rows_deleted", generation_table=table, expired_ids=extra)
    finally:
        if comparison.written or deleted:
            graph.value("index_built", generation_table=table, kept_version=record.base_version)
            rows = graph.value("row_count", generation_table=table)
            catalog.change(live, rows=rows, questions_digest=None)
    if comparison.written or deleted:
        catalog.change(live, documents=corpus.documents)
    counts = {
        "documents": corpus.documents,
        "passages": comparison.passages,
        "missing": comparison.missing,
        "refused": (refused := comparison.refused()),
        "extra": len(extra),
        "altered": comparison.altered,
        "held_back": held_back,
        "vectors_checked": comparison.vectors_checked,
        "written": comparison.written,
        "deleted": deleted,
        "left": comparison.left,
    }
    return {
        "collection": settings.collection,
        "generation": live,
        "sound": not (comparison.missing > refused or len(extra) or comparison.altered),
        "repaired": repair,
        "counts": counts,
        "examples": comparison.examples | {"extra": extra[:EXAMPLES].to_pylist()},
        "generations": list(_drift(catalog, comparison.digests())),
        "seconds": round(time.monotonic() - started, 3),
    }


class _Comparison:
    """Passages of the corpus beside the rows of the store, batch by batch."""

    def __init__(
        self,
        settings: Settings,
        graph: Graph,
        table: Any,
        stored: np.ndarray,
        vectors: int,
        findings: Findings | None,
    ) -> None:
        self._settings, self._graph, self._table, self._findings = settings, graph, table, findings
        self._cache = opened_cache(settings, graph)
        self._stored = as_keys(stored)
        self._stored.sort()
        # Passages that the store lacks, for the service refused them: so says the quarantine, or a repair finds out.
        known = [] if findings else [entry["passage_id"] for entry in listed(settings) if entry["passage_id"]]
        refused = _raw(pa.array(known, pa.string()))
        self._refused = [refused[~np.isin(as_keys(refused), self._stored)]]
        self._expected: list[np.ndarray] = []
        self._share = vectors / max(1, len(stored))
        self._chance = np.random.default_rng()
        self.examples: dict[str, list[str]] = {"missing": [], "altered": []}
        self.passages = self.missing = self.altered = self.vectors_checked = self.written = self.left = 0
        self._tokens = 0

    def add(self, passages: pa.Table) -> None:
        """Compare some passages of the corpus with their rows, and mend these."""
        raw = _raw(passages["id"].combine_chunks())
        self._expected.append(raw)
        self.passages += passages.num_rows
        there = np.isin(as_keys(raw), self._stored)
        altered = there.copy()
        altered[there] = self._differ(passages.filter(pa.array(there)))
        self._note("missing", passages["id"].filter(pa.array(~there)))
        self._note("altered", passages["id"].filter(pa.array(altered)))
        wrong = passages.filter(pa.array(~there | altered))
        if self._findings and wrong.num_rows:
            self.written += self._rewritten(wrong, bool(altered.any()), self._findings)

    def unexplained(self, corpus: Corpus) -> tuple[pa.Array, int]:
        """Ids in the store that no passage of the corpus has, and how many others stay.

        Of these nobody can tell whose they are, or the service refused the new version of their document.
        """
        everything = np.concatenate([as_keys(raw) for raw in self._expected])
        extra = np.setdiff1d(self._stored, everything)
        raw = np.frombuffer(extra.tobytes(), np.uint8).reshape(-1, ID_DIGITS // 2)
        documents, refused = Digests.read(raw), Digests.joined(Digests.read(each) for each in self._refused)
        wanted = np.isin(as_keys(np.concatenate(self._refused)), everything)
        withheld = corpus.withheld(documents) | np.isin(documents.identities(), refused.identities()[wanted])
        return to_hex(raw[~withheld]), int(withheld.sum())

    def refused(self) -> int:
        """How many of the missing passages the service refused, as far as that is known."""
        everything = np.concatenate([as_keys(raw) for raw in self._expected])
        missing = everything[~np.isin(everything, self._stored)]
        return int(np.isin(missing, as_keys(np.concatenate(self._refused))).sum())

    def digests(self) -> Digests:
        """Of the corpus's documents, ascending, each once."""
        every = Digests.joined([Digests.read(raw) for raw in self._expected])
        every = every[every.order()]
        first = np.ones(len(every), bool)
        first[1:] = (every.high[1:] != every.high[:-1]) | (every.low[1:] != every.low[:-1])
        return every[first]

    def _differ(self, passages: pa.Table) -> np.ndarray:
        """`bool [passages]`: whose rows, which are there, are not as they were written."""
        ids = passages["id"].combine_chunks()
        rows = self._graph.value("stored_rows", generation_table=self._table, wanted_ids=ids)
        order = pc.index_in(ids, rows["id"].combine_chunks())
        rows, differ = rows.take(order), np.zeros(passages.num_rows, bool)
        for name in (name for name in passages.column_names if name in rows.column_names):
            found, wanted = rows[name].combine_chunks(), passages[name].combine_chunks().cast(rows[name].type)
            empty = pa.scalar("" if pa.types.is_string(found.type) else 0, found.type)
            same = pc.equal(pc.fill_null(found, empty), pc.fill_null(wanted, empty))  # U+0000 of Postgres aside
            differ |= ~same.to_numpy(zero_copy_only=False)
        vectors = vectors_of(rows)
        differ |= ~(np.abs(np.linalg.norm(vectors, axis=1) - 1) < 1 - LEAST_COSINE)
        chosen = np.flatnonzero(self._chance.random(passages.num_rows) < self._share)
        if len(chosen):
            made, there, _ = self._vectors(passages.take(pa.array(chosen)), cached=False)
            cosines = (made * vectors[chosen]).sum(axis=1)
            differ[chosen[there & ~(cosines >= LEAST_COSINE)]] = True
            self.vectors_checked += int(there.sum())
        return differ

    def _rewritten(self, passages: pa.Table, altered: bool, findings: Findings) -> int:
        """The number of passages written; those that the service refuses stay as they are."""
        self._tokens += _billed_tokens(self._graph, None if altered else self._cache, passages)
        try:
            affordable_cost(self._settings, self._tokens)
        except GuardError as error:
            raise GuardError(f"{error}. {self.written} passages were mended before") from None
        vectors, there, reasons = self._vectors(passages, cached=not altered)
        findings.add_passages(passages, reasons)
        sound = passages.filter(pa.array(there))
        self._refused.append(_raw(passages["id"].filter(pa.array(~there)).combine_chunks()))
        self.left += passages.num_rows - sound.num_rows
        written: int = self._graph.value(
            "rows_written", passages=sound, embeddings=vectors[there], generation_table=self._table
        )
        return written

    def _vectors(self, passages: pa.Table, cached: bool) -> tuple[np.ndarray, np.ndarray, dict[int, str]]:
        """The passages' vectors, and which of them there are: not those that the service refused, and why."""
        texts = self._graph.value("embedding_texts", passages=passages)
        there, reasons = np.ones(len(texts), bool), dict[int, str]()
        try:
            vectors, _ = cached_vectors(self._graph, self._cache if cached else None, "embeddings", texts)
        except RefusedTextsError as refusal:
            vectors, reasons = refusal.embeddings, refusal.reasons
            there[list(reasons)] = False
        return vectors, there, reasons

    def _note(self, what: str, ids: pa.ChunkedArray) -> None:
        setattr(self, what, getattr(self, what) + len(ids))
        self.examples[what] += ids.slice(0, EXAMPLES - len(self.examples[what])).to_pylist()
        if len(ids):
            log.warning("%d passages are %s, e.g. %s", len(ids), what, ids[0])


def _looked_over(settings: Settings, graph: Graph, stored: StoredDocuments, repair: bool) -> list[Unreadable]:
    """The documents that the corpus has in several versions.

    What nothing may be mended by is refused: the corpus, or what is missing, if that costs more than the budget.
    """
    repeated: list[Unreadable] = []
    cache, there = opened_cache(settings, graph) if repair else None, as_keys(stored.ids)
    while True:
        corpus, tokens = Corpus(settings, graph, stored, repeated=repeated), 0
        for batch in _passages(corpus, graph) if repair else corpus.changes():
            if repair:
                missing = ~np.isin(as_keys(_raw(batch["id"].combine_chunks())), there)
                tokens += _billed_tokens(graph, cache, batch.filter(pa.array(missing)))
        if not (more := corpus.repeated_documents()):
            break
        repeated += more
    if repair:
        check_corpus(settings, corpus, None)
        affordable_cost(settings, tokens)
    return repeated


def _billed_tokens(graph: Graph, cache: EmbeddingCache | None, passages: pa.Table) -> int:
    """The tokens of the passages that are not in the cache."""
    known = cache.contains(graph.value("embedding_texts", passages=passages)) if cache else False
    return int((passages["tokens"].to_numpy() * ~np.asarray(known)).sum())


def _passages(corpus: Corpus, graph: Graph) -> Iterator[pa.Table]:
    graph.kept("tokenizer")
    for documents in corpus.changes():
        if documents.num_rows:
            yield graph.value("passages", changed_documents=documents)


def _drift(catalog: Generations, corpus: Digests) -> Iterator[dict[str, Any]]:
    """How far each generation is from the corpus, in documents."""
    for name, record in sorted(catalog.items()):
        if not record.is_described:  # a run has just begun it, or died then
            continue
        stored = catalog.graph.value("stored_documents", generation_table=catalog.table(name))
        complete = stored.digests[stored.complete]
        yield {
            "generation": name,
            "live": name == catalog.live,
            "rows": len(stored.ids),
            "recorded_rows": record.rows,
            "missing_documents": int((complete.positions(corpus) < 0).sum()),
            "extra_documents": int((corpus.positions(complete) < 0).sum()),
        }


def _refuse_many(settings: Settings, extra: int, stored: int) -> None:
    if extra > settings.guard.max_deleted_fraction * stored:
        raise GuardError(
            f"the corpus explains {stored - extra} of the {stored} rows: guard.max_deleted_fraction allows "
            f"{settings.guard.max_deleted_fraction:.1%} to be deleted. Nothing was deleted. Is this its corpus?"
        )


def _raw(ids: pa.Array) -> np.ndarray:
    """Passage ids as `uint8 [n, 16]`."""
    return from_hex(ids, ID_DIGITS)[0]
