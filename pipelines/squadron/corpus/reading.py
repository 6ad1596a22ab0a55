"""Corpus: one pass over it against the ids in the store, in memory that does not grow with the texts."""

from collections.abc import Generator

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from squadron.corpus.findings import Findings
from squadron.corpus.probes import ProbeSample
from squadron.corpus.questions import QuestionSample
from squadron.corpus.unreadable import Unread, identities_of, versions_of
from squadron.dataflow.changes import StoredDocuments
from squadron.dataflow.digests import DIGEST_BYTES, Digests, DigestSet, to_hex
from squadron.dataflow.driver import Graph
from squadron.process.prefetch import prefetched
from squadron.process.progress import Progress
from squadron.settings.registry import load
from squadron.settings.schema import Settings
from squadron.sources.rows import Unreadable, has_text

_BATCH_NODES = [
    *("blank_rows", "corpus_documents", "corpus_questions"),
    *("seen_positions", "changed_documents", "changed_digests"),
]
"""What is asked of the graph about each batch of rows."""


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
        self._changes = DigestSet()
        self._unchanged = 0
        self._rewritten: set[str] = set()
        in_part = stored.ids[~stored.complete[stored.document_of]]
        self._in_part = {row.tobytes().hex()[: 2 * DIGEST_BYTES] for row in in_part}
        self.seen = np.zeros(len(stored.digests), bool)
        """`bool [stored documents]`: which of them the corpus still holds."""
        self.rows = -sum(item.rows for item in repeated or ())
        """Rows with a text."""
        self.blank = 0
        """Rows without one, which stand for documents."""
        self.without_document = 0
        """Rows with neither a text nor an id: they stand for none."""
        self.limited = False
        """Whether `source.limit` ended the pass."""
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
        return len(self._changes) + self._unchanged

    @property
    def unchanged_passages(self) -> int:
        """Passages in the store that stay as they are."""
        unchanged = self.seen & self._stored.complete | self.withheld(self._stored.digests)
        return int(unchanged[self._stored.document_of].sum())

    def withheld(self, stored: Digests) -> np.ndarray:
        """`bool [stored]`: documents that the corpus does not show, and that may be what cannot be read of it.

        Their rows are not deleted, until the corpus can be read, or says that they have left it.
        """
        missing = np.zeros(len(stored), bool)
        if self.unread:
            seen = self._stored.digests[self.seen].identities()
            readable = np.concatenate([seen, self._changes.everything().identities()])
            missing = self.unread.may_be(stored.identities())
            missing[missing] = ~np.isin(stored.identities()[missing], readable)
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
                yield self._changed_documents(rows)
                progress.add(self.documents - before)
                if source.limit and self.documents >= source.limit:
                    self.limited = True
                    return

    def asked(self) -> tuple[str, pa.Table]:
        """What is asked in an evaluation: `questions` of the corpus, or `probes` where it has none; and these."""
        questions = self._questions.table()
        return ("questions", questions) if questions.num_rows else ("probes", self._probes.table())

    def note_cut(self, passages: pa.Table) -> None:
        """Take notice of the passages of a changed document that was stored in part."""
        if self._in_part:
            self._rewritten.update(i for i in passages["id"].to_pylist() if i[: 2 * DIGEST_BYTES] in self._in_part)

    def leftover_ids(self) -> pa.Array:
        """Stored ids of documents that were stored in part, and are cut otherwise now."""
        stored = self._stored
        ids = to_hex(stored.ids[(self.seen & ~stored.complete)[stored.document_of]])
        return ids.filter(pc.invert(pc.is_in(ids, pa.array(self._rewritten, pa.string()))))

    def vanished_fraction(self, retitled: int = 0) -> float:
        """The share of the stored documents of which the corpus holds no version any more.

        As many are left aside as may be what cannot be read: a broken row stands for one document, not for all; and
        those that have another title.
        """
        stored, vanished = self._stored_and_vanished()
        return max(0, vanished - retitled - self.unread.most_others(stored)) / stored if stored else 0.0

    @property
    def vanished_documents(self) -> int:
        """How many stored documents the pass has met in no version."""
        return self._stored_and_vanished()[1]

    @property
    def vanished(self) -> np.ndarray:
        """`bool [stored documents]`: those that the pass has met in no version."""
        stored, changed = self._stored.digests.identities(), np.unique(self._changes.everything().identities())
        return ~(self.seen | np.isin(stored, changed) | self.unread.is_known_to_be(stored))

    def _stored_and_vanished(self) -> tuple[int, int]:
        stored = self._stored.digests.identities()
        if not len(stored):
            return 0, 0
        (starts,) = np.nonzero(np.diff(stored, prepend=~stored[:1]))
        return len(starts), int(np.logical_and.reduceat(self.vanished, starts).sum())

    def _changed_documents(self, rows: pa.RecordBatch) -> pa.Table:
        """The changed documents of a batch; takes notice of what else is in it."""
        limit = self._settings.source.limit
        batch = self._graph.values(
            _BATCH_NODES,
            rows=rows,
            stored_documents=self._stored,
            seen=self.seen,
            earlier_changes=self._changes,
            repeated_identities=self._repeated,
            document_limit=limit - self.documents if limit else None,
        )
        self._count_rows(rows, batch["blank_rows"])
        self.seen[batch["seen_positions"]] = True
        self._unchanged += int(self._stored.complete[batch["seen_positions"]].sum())
        self._changes.add(batch["changed_digests"])
        self._questions.add(batch["corpus_questions"])
        self._probes.add(batch["corpus_documents"])
        changed_documents: pa.Table = batch["changed_documents"]
        return changed_documents

    def _count_rows(self, rows: pa.RecordBatch, blank: int) -> None:
        """Count the rows of a batch; those without a text are documents that cannot be read, or none."""
        self.rows += rows.num_rows - blank
        unreadable = self._stand_for_documents(rows) if blank else np.zeros(rows.num_rows, bool)
        self.blank += int(unreadable.sum())
        self.without_document += blank - int(unreadable.sum())
        if unreadable.any():
            self.unread.add_documents(rows["document_id"].filter(pa.array(unreadable)))
        if self._quarantine:
            self._quarantine.add_rows(rows, unreadable)

    def _stand_for_documents(self, rows: pa.RecordBatch) -> np.ndarray:
        """`bool [rows]`: rows without a text that are documents: not where text and id are there, and empty."""
        blank = ~has_text(rows["text"]).to_numpy(zero_copy_only=False)
        if not self._settings.source.columns.document_id:  # a document is its text
            return np.zeros(rows.num_rows, bool)
        empty = pc.and_(pc.is_valid(rows["text"]), pc.is_valid(rows["document_id"])).to_numpy(zero_copy_only=False)
        stand_for_none: np.ndarray = empty & ~has_text(rows["document_id"]).to_numpy(zero_copy_only=False)
        return blank & ~stand_for_none

    def _leave_out(self, item: Unreadable) -> None:
        self.unread.add(item)
        if self._quarantine:
            self._quarantine.add_unreadable(item)

    def repeated_documents(self) -> list[Unreadable]:
        """The documents that have several versions: which of them a reader finds would be left to chance."""
        unchanged = self._stored.digests[self.seen & self._stored.complete].identities()
        identities = np.sort(np.concatenate([unchanged, self._changes.everything().identities()]))
        suspects = np.unique(identities[1:][identities[1:] == identities[:-1]])
        if not len(suspects):
            return []
        return versions_of(self._settings, self._graph, suspects)
