"""Comparison: the passages of a corpus beside the rows of the live generation, which it mends where it is told to."""

import logging
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from squadron.cache.vectors import EmbeddingCache
from squadron.corpus.findings import Findings
from squadron.corpus.quarantine import listed
from squadron.corpus.reading import Corpus
from squadron.dataflow.cached_vectors import cached_vectors, opened_cache
from squadron.dataflow.changes import ID_DIGITS
from squadron.dataflow.digests import Digests, as_keys, from_hex, to_hex
from squadron.dataflow.driver import Graph
from squadron.embeddings.remote.failures import RefusedTextsError
from squadron.errors import GuardError
from squadron.runs.budget import affordable_cost
from squadron.settings.schema import Settings
from squadron.stores.record_schema import vectors_of

log = logging.getLogger(__name__)

LEAST_COSINE = 0.99
"""Of a stored vector to the one that the model gives now, which another machine may round otherwise."""
EXAMPLES = 5


class Comparison:
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
        refused_before = [] if findings else [entry["passage_id"] for entry in listed(settings) if entry["passage_id"]]
        refused = id_bytes(pa.array(refused_before, pa.string()))
        self._refused = [refused[~np.isin(as_keys(refused), self._stored)]]
        self._expected: list[np.ndarray] = []
        self._share = vectors / max(1, len(stored))
        self._random = np.random.default_rng()
        self.examples: dict[str, list[str]] = {"missing": [], "altered": []}
        self.passages = self.missing = self.altered = self.vectors_checked = self.written = self.left = 0
        self._tokens = 0

    def add(self, passages: pa.Table) -> None:
        """Compare some passages of the corpus with their rows, and mend these."""
        raw = id_bytes(passages["id"].combine_chunks())
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
        expected = np.concatenate([as_keys(raw) for raw in self._expected])
        extra = np.setdiff1d(self._stored, expected)
        raw = np.frombuffer(extra.tobytes(), np.uint8).reshape(-1, ID_DIGITS // 2)
        documents, refused = Digests.read(raw), Digests.joined(Digests.read(each) for each in self._refused)
        still_expected = np.isin(as_keys(np.concatenate(self._refused)), expected)
        withheld = corpus.withheld(documents) | np.isin(documents.identities(), refused.identities()[still_expected])
        return to_hex(raw[~withheld]), int(withheld.sum())

    def refused(self) -> int:
        """How many of the missing passages the service refused, as far as that is known."""
        expected = np.concatenate([as_keys(raw) for raw in self._expected])
        missing = expected[~np.isin(expected, self._stored)]
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
            stored_values = rows[name].combine_chunks()
            expected_values = passages[name].combine_chunks().cast(stored_values.type)
            empty = pa.scalar("" if pa.types.is_string(stored_values.type) else 0, stored_values.type)
            # Null and empty are the same here: of a text that is U+0000 alone, Postgres keeps nothing.
            same = pc.equal(pc.fill_null(stored_values, empty), pc.fill_null(expected_values, empty))
            differ |= ~same.to_numpy(zero_copy_only=False)
        vectors = vectors_of(rows)
        differ |= ~(np.abs(np.linalg.norm(vectors, axis=1) - 1) < 1 - LEAST_COSINE)
        sample = np.flatnonzero(self._random.random(passages.num_rows) < self._share)
        if len(sample):
            fresh_vectors, embedded, _ = self._vectors(passages.take(pa.array(sample)), cached=False)
            cosines = (fresh_vectors * vectors[sample]).sum(axis=1)
            differ[sample[embedded & ~(cosines >= LEAST_COSINE)]] = True
            self.vectors_checked += int(embedded.sum())
        return differ

    def _rewritten(self, passages: pa.Table, altered: bool, findings: Findings) -> int:
        """The number of passages written; those that the service refuses stay as they are."""
        self._tokens += estimated_tokens(self._graph, None if altered else self._cache, passages)
        try:
            affordable_cost(self._settings, self._tokens)
        except GuardError as error:
            raise GuardError(f"{error}. {self.written} passages were mended before") from None
        vectors, there, reasons = self._vectors(passages, cached=not altered)
        findings.add_passages(passages, reasons)
        sound = passages.filter(pa.array(there))
        self._refused.append(id_bytes(passages["id"].filter(pa.array(~there)).combine_chunks()))
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


def estimated_tokens(graph: Graph, cache: EmbeddingCache | None, passages: pa.Table) -> int:
    """The tokens of the passages that are not in the cache."""
    cached = cache.contains(graph.value("embedding_texts", passages=passages)) if cache else False
    return int((passages["tokens"].to_numpy() * ~np.asarray(cached)).sum())


def id_bytes(ids: pa.Array) -> np.ndarray:
    """Passage ids as `uint8 [n, 16]`."""
    return from_hex(ids, ID_DIGITS)[0]
