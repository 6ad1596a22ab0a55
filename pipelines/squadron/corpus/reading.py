"""Corpus: one pass over it against the ids in the store, in memory that does not grow with the texts."""

from collections.abc import Generator
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from squadron.corpus.probes import ProbeSample
from squadron.corpus.quarantine import Findings
from squadron.corpus.questions import QuestionSample
from squadron.corpus.unreadable import Unread, identities_of, versions_of
from squadron.dataflow.changes import StoredDocuments
from squadron.dataflow.digests import DIGEST_BYTES, Digests, DigestSet, to_hex
from squadron.dataflow.driver import Graph
from squadron.errors import GuardError, SourceError
from squadron.process.prefetch import prefetched
from squadron.process.progress import Progress
from squadron.settings.registry import load
from squadron.settings.schema import Settings
from squadron.sources.rows import Unreadable, has_text


class Corpus:
    """What one pass over the corpus finds out; iterate `changes` to make it.

    `repeated`: what an earlier pass met in several versions (`repeated_documents`), and this one leaves out.
    """

    def __init__(
        self,
        settings: Settings,
        graph: Graph,
        stored: StoredDocuments,
        quarantine: Findings | None = None,
        repeated: list[Unreadable] | None = None,
    ) -> None:
        self._settings = settings
        self._graph = graph
        self._stored = stored
        self._quarantine = quarantine
        self._new = DigestSet()
        self._kept = 0
        self._rewritten: set[str] = set()
        in_part = stored.ids[~stored.complete[stored.document_of]]
        self._in_part = {row.tobytes().hex()[: 2 * DIGEST_BYTES] for row in in_part}
        self.seen = np.zeros(len(stored.digests), bool)
        """`bool [stored documents]`: which of them the corpus still holds."""
        self.rows = -sum(item.rows for item in repeated or ())
        """Rows with a text."""
        self.blank = 0
        """Rows without one."""
        self.unread = Unread()
        """What else of the corpus has no document."""
        self._repeated = identities_of(pa.array([item.document_id for item in repeated or ()], pa.string()))
        for item in repeated or ():
            self._leave_out(item)
        self._questions = QuestionSample(settings.evaluation.max_questions)
        self._probes = ProbeSample(settings.evaluation.max_questions)

    @property
    def documents(self) -> int:
        """Distinct documents so far."""
        return len(self._new) + self._kept

    @property
    def unchanged_passages(self) -> int:
        """Passages in the store that stay as they are."""
        kept = self.seen & self._stored.complete | self.withheld(self._stored.digests)
        return int(kept[self._stored.document_of].sum())

    def withheld(self, stored: Digests) -> np.ndarray:
        """`bool [stored]`: documents that the corpus does not show, and that may be what cannot be read of it.

        Their rows are not deleted, until the corpus can be read, or says that they have left it.
        """
        missing = np.zeros(len(stored), bool)
        if self.unread:
            kept = self._stored.digests[self.seen].identities()
            known = np.concatenate([kept, self._new.everything().identities()])
            missing = self.unread.may_be(stored.identities())
            missing[missing] = ~np.isin(stored.identities()[missing], known)
        return missing

    @property
    def withheld_passages(self) -> int:
        """Passages in the store that stay although the corpus does not show their document."""
        return int(self.withheld(self._stored.digests)[self._stored.document_of].sum())

    def changes(self) -> Generator[pa.Table, None, None]:
        """The documents that the store lacks, batch by batch, each once. The source is read ahead."""
        source = self._settings.source
        progress = Progress("plan", None, "documents")
        with prefetched(load("sources", source.name).read_rows(source)) as batches:
            for rows in batches:
                if isinstance(rows, Unreadable):
                    self._leave_out(rows)
                    continue
                before = self.documents
                yield self._changed(rows)
                progress.add(self.documents - before)
                if source.limit and self.documents >= source.limit:
                    return

    def asked(self) -> tuple[str, pa.Table]:
        """What is asked in an evaluation: `questions` of the corpus, or `probes` where it has none; and these."""
        questions = self._questions.table()
        return ("questions", questions) if questions.num_rows else ("probes", self._probes.table())

    def check(self, live_documents: int | None) -> None:
        """Raise when the corpus is empty, or much of it cannot be read, or it shrank by more than the guard allows.

        `live_documents`: how many the live generation holds, when another one is to take its place.
        """
        settings = self._settings
        if not self.documents:
            where = settings.source.path or settings.source.name
            if self.unread.items:
                told = self.unread.shown()
                raise SourceError(f"nothing of the corpus {where} can be read: {told}. Nothing was changed")
            found = f"{self.blank} rows, none of them with a text" if self.blank else "no rows"
            raise SourceError(f"the corpus {where} has {found}: nothing was changed. Check source.columns.text")
        allowed = settings.guard.max_quarantined_fraction
        for share, words in self.unread.shares(self.rows, self.blank):
            if share > allowed:
                first = f" First of what cannot be read: {self.unread.shown()}." if self.unread.items else ""
                raise GuardError(
                    f"{words} ({share:.1%}): guard.max_quarantined_fraction allows {allowed:.1%}.{first} "
                    "Mend the corpus, or raise that for this run"
                )
        gone = self.vanished_fraction()
        if live_documents:
            gone = max(gone, 1 - self.documents / live_documents)
        if gone > settings.guard.max_deleted_fraction:
            raise GuardError(
                f"the corpus lacks {gone:.1%} of the documents in the store: "
                f"guard.max_deleted_fraction allows {settings.guard.max_deleted_fraction:.1%}. Nothing was "
                "changed. If they are to be deleted, raise it for this run; if this is another corpus, give it "
                "a collection of its own"
            )

    def check_candidate(self, live: Digests) -> None:
        """Raise when a generation made of this corpus would lack what the live one holds, for it cannot be read now."""
        if lacking := int(self.withheld(live).sum()):
            raise GuardError(
                f"a new generation would lack {lacking} documents of the live one, for they are, or may be, what "
                f"cannot be read of the corpus: {self.unread.shown() or 'rows without a text'}. Mend it, or take it "
                "out of the corpus. Nothing was changed"
            )

    def note_cut(self, passages: pa.Table) -> None:
        """Take notice of the passages of a changed document that was stored in part."""
        if self._in_part:
            self._rewritten.update(i for i in passages["id"].to_pylist() if i[: 2 * DIGEST_BYTES] in self._in_part)

    def leftover_ids(self) -> pa.Array:
        """Stored ids of documents that were stored in part, and are cut otherwise now."""
        stored = self._stored
        ids = to_hex(stored.ids[(self.seen & ~stored.complete)[stored.document_of]])
        return ids.filter(pc.invert(pc.is_in(ids, pa.array(self._rewritten, pa.string()))))

    def vanished_fraction(self) -> float:
        """The share of the stored documents of which the corpus holds no version any more.

        As many are left aside as may be what cannot be read: a broken row stands for one document, not for all.
        """
        stored = self._stored.digests.identities()
        if not len(stored):
            return 0.0
        new = np.unique(self._new.everything().identities())
        present = self.seen | np.isin(stored, new) | self.unread.is_known_to_be(stored)
        (starts,) = np.nonzero(np.diff(stored, prepend=~stored[:1]))
        missing = int((~np.logical_or.reduceat(present, starts)).sum())
        return max(0, missing - self.unread.most_others(len(starts))) / len(starts)

    def _changed(self, rows: pa.RecordBatch) -> pa.Table:
        """The changed documents of a batch."""
        found = self._graph.values(
            ["documents", "document_digests", "stored_positions", "questions", "blank_rows"],
            rows=rows,
            stored_documents=self._stored,
        )
        self.rows += rows.num_rows - found["blank_rows"]
        if found["blank_rows"]:
            self.blank += found["blank_rows"]
            if self._settings.source.columns.document_id:  # else a document without a text is none
                self.unread.add_documents(rows["document_id"].filter(pc.invert(has_text(rows["text"]))))
        if self._quarantine:
            self._quarantine.add_rows(rows, found["blank_rows"])
        if len(self._repeated):
            found = _chosen(found, ~np.isin(found["document_digests"].identities(), self._repeated))
        fresh = self._fresh(found["document_digests"], found["stored_positions"])
        limit = self._settings.source.limit
        if limit and (room := limit - self.documents) <= fresh.sum():
            found, fresh = _cut(found, fresh, room)
        self._questions.add(found["questions"])
        self._probes.add(found["documents"])
        return self._noted(found, fresh)

    def _leave_out(self, item: Unreadable) -> None:
        self.unread.add(item)
        if self._quarantine:
            self._quarantine.add_unreadable(item)

    def _fresh(self, digests: Digests, positions: np.ndarray) -> np.ndarray:
        """`bool`: which documents of the batch this pass has not met before."""
        stored = positions >= 0
        met = self._new.contains(digests)
        met[stored] |= self.seen[positions[stored]]
        return ~met

    def _noted(self, found: dict[str, Any], fresh: np.ndarray) -> pa.Table:
        """The changed ones among the fresh documents of a batch."""
        positions = found["stored_positions"]
        stored = np.flatnonzero(fresh & (positions >= 0))
        self.seen[positions[stored]] = True
        unchanged = stored[self._stored.complete[positions[stored]]]
        self._kept += len(unchanged)
        fresh = fresh.copy()
        fresh[unchanged] = False
        self._new.add(found["document_digests"][fresh])
        return found["documents"].filter(pa.array(fresh))

    def repeated_documents(self) -> list[Unreadable]:
        """The documents that have several versions: which of them a reader finds would be left to chance."""
        kept = self._stored.digests[self.seen & self._stored.complete].identities()
        identities = np.sort(np.concatenate([kept, self._new.everything().identities()]))
        suspects = np.unique(identities[1:][identities[1:] == identities[:-1]])
        if not len(suspects):
            return []
        return versions_of(self._settings, self._graph, suspects)


def _chosen(found: dict[str, Any], chosen: np.ndarray) -> dict[str, Any]:
    """Some documents of a batch, and the questions about them."""
    documents, asked = found["documents"].filter(pa.array(chosen)), found["questions"]
    return found | {
        "documents": documents,
        "document_digests": found["document_digests"][chosen],
        "stored_positions": found["stored_positions"][chosen],
        "questions": asked.filter(pc.is_in(asked["document_id"], documents["document_id"].combine_chunks())),
    }


def _cut(found: dict[str, Any], fresh: np.ndarray, room: int) -> tuple[dict[str, Any], np.ndarray]:
    """A batch up to the last of so many fresh documents, and the questions about what is left."""
    end = int(np.flatnonzero(fresh)[room - 1]) + 1
    return _chosen(found, np.arange(len(fresh)) < end), fresh[:end]
