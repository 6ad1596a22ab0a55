"""Planning: one pass over the corpus against the ids in the store, in memory that does not grow with the texts."""

from collections.abc import Generator
from contextlib import closing
from dataclasses import dataclass
from hashlib import blake2b
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from pipelines.cache import EmbeddingCache
from pipelines.dataflow.changes import StoredDocuments
from pipelines.dataflow.digests import DIGEST_BYTES, Digests, DigestSet, hashed, to_hex
from pipelines.errors import GuardError, SourceError
from pipelines.graph import Graph
from pipelines.overlap import made_ahead
from pipelines.probes import ProbeSample
from pipelines.progress import Progress
from pipelines.quarantine import Findings
from pipelines.registry import load
from pipelines.settings import Settings
from pipelines.staging import ShardWriter

_SAMPLE = pa.schema(
    [(name, pa.string()) for name in ("question_id", "question", "document_id")] + [("key", pa.uint64())]
)


class Corpus:
    """What one pass over the corpus finds out; iterate `changes` to make it."""

    def __init__(
        self, settings: Settings, graph: Graph, stored: StoredDocuments, quarantine: Findings | None = None
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
        self.blank = 0
        """Rows without a text."""
        self._questions = QuestionSample(settings.evaluation.max_questions)
        self._probes = ProbeSample(settings.evaluation.max_questions)

    @property
    def documents(self) -> int:
        """Distinct documents so far."""
        return len(self._new) + self._kept

    @property
    def unchanged_passages(self) -> int:
        """Passages in the store that stay as they are."""
        kept = self.seen & self._stored.complete
        return int(kept[self._stored.document_of].sum())

    def changes(self) -> Generator[pa.Table, None, None]:
        """The documents that the store lacks, batch by batch, each once. The source is read ahead."""
        source = self._settings.source
        progress = Progress("plan", None, "documents")
        with made_ahead(load("sources", source.name).read_rows(source)) as batches:
            for rows in batches:
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
        """Raise when the corpus is empty, ambiguous, or shrank by more than the guard allows.

        `live_documents`: how many the live generation holds, when another one is to take its place.
        """
        settings = self._settings
        if not self.documents:
            where = settings.source.path or settings.source.name
            found = f"{self.blank} rows, none of them with a text" if self.blank else "no rows"
            raise SourceError(f"the corpus {where} has {found}: nothing was changed. Check source.columns.text")
        blank = self.blank / (self.blank + self.documents)
        if blank > settings.guard.max_quarantined_fraction:
            raise GuardError(
                f"{self.blank} rows have no text beside {self.documents} documents that have one ({blank:.1%}): "
                f"guard.max_quarantined_fraction allows {settings.guard.max_quarantined_fraction:.1%}. "
                "Mend the corpus, or raise it"
            )
        self._check_identities()
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
        """The share of the stored documents of which the corpus holds no version any more."""
        stored = self._stored.digests.identities()
        if not len(stored):
            return 0.0
        new = np.unique(self._new.everything().identities())
        present = self.seen.copy()
        present[np.isin(stored, new, assume_unique=False)] = True
        (starts,) = np.nonzero(np.diff(stored, prepend=~stored[:1]))
        return 1 - float(np.logical_or.reduceat(present, starts).mean())

    def _changed(self, rows: pa.RecordBatch) -> pa.Table:
        """The changed documents of a batch."""
        found = self._graph.values(
            ["documents", "document_digests", "stored_positions", "questions", "blank_rows"],
            rows=rows,
            stored_documents=self._stored,
        )
        self.blank += found["blank_rows"]
        if self._quarantine:
            self._quarantine.add_rows(rows, found["blank_rows"])
        fresh = self._fresh(found["document_digests"], found["stored_positions"])
        limit = self._settings.source.limit
        if limit and (room := limit - self.documents) <= fresh.sum():
            found, fresh = _cut(found, fresh, room)
        self._questions.add(found["questions"])
        self._probes.add(found["documents"])
        return self._noted(found, fresh)

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

    def _check_identities(self) -> None:
        """Refuse two versions of one document: which of them a reader finds would be left to chance."""
        kept = self._stored.digests[self.seen & self._stored.complete].identities()
        identities = np.sort(np.concatenate([kept, self._new.everything().identities()]))
        suspects = np.unique(identities[1:][identities[1:] == identities[:-1]])
        if not len(suspects):
            return
        source, versions = self._settings.source, dict[str, set[bytes]]()
        by_id = source.columns.document_id is not None
        for rows in load("sources", source.name).read_rows(source):
            found = self._graph.values(["documents", "document_digests"], rows=rows)
            twice = found["documents"].filter(pa.array(np.isin(found["document_digests"].identities(), suspects)))
            names = twice["document_id" if by_id else "text"].to_pylist()
            for name, digest in zip(names, twice["digest"].to_pylist(), strict=True):
                versions.setdefault(name if by_id else name[:60], set()).add(digest)
        if names := sorted(name for name, digests in versions.items() if len(digests) > 1):
            examples = ", ".join(map(repr, names[:3]))
            raise SourceError(
                f"{len(names)} document ids stand for different texts, titles or metadata, e.g. {examples}: "
                f"ids in column {source.columns.document_id!r} must be unique. Nothing was changed"
                if by_id
                else f"{len(names)} documents have different metadata in different rows, e.g. the one that begins "
                f"{examples}: take the columns that differ out of source.columns.metadata. Nothing was changed"
            )


class QuestionSample:
    """A fixed sample of the corpus's questions: those whose ids have the smallest digests (bottom-k sampling).

    It does not depend on the order of the corpus, and stays nearly the same when the corpus changes a little,
    so that figures of two runs can be compared.
    """

    def __init__(self, size: int) -> None:
        self._size = size
        self._rows = _SAMPLE.empty_table()
        self._farthest = np.iinfo(np.uint64).max

    def add(self, questions: pa.Table) -> None:
        """Take the questions of a batch. Of questions with the same id one is kept."""
        keys = np.frombuffer(b"".join(hashed(questions["question_id"].combine_chunks(), 8)), ">u8").astype(np.uint64)
        near = keys <= self._farthest
        if not self._size or not near.any():
            return
        rows = questions.filter(pa.array(near)).append_column("key", pa.array(keys[near]))
        rows = pa.concat_tables([self._rows, rows])
        rows = rows.sort_by([(name, "ascending") for name in ("key", "document_id", "question")])
        _, first = np.unique(rows["key"].to_numpy(), return_index=True)
        self._rows = rows.take(first[: self._size])
        if self._rows.num_rows == self._size:
            self._farthest = self._rows["key"][-1].as_py()

    def table(self) -> pa.Table:
        """The sample: question_id, question, document_id."""
        return self._rows.drop_columns(["key"]).combine_chunks()


def questions_digest(questions: pa.Table) -> str:
    """Equal digests are equal questions, relevant documents included."""
    rows = zip(*(column.to_pylist() for column in questions.columns), strict=True)
    return blake2b(repr(list(rows)).encode(), digest_size=8).hexdigest()


@dataclass(frozen=True)
class Staged:
    """What is to be embedded."""

    passages: int = 0
    tokens: int = 0
    billed_tokens: int = 0
    """Tokens of the passages whose vectors are not in the cache."""


def staged_passages(corpus: Corpus, graph: Graph, cache: EmbeddingCache | None, writer: ShardWriter | None) -> Staged:
    """Cut the changed documents; the passages wait in the writer's shards if there is one."""
    staged = Staged()
    with closing(corpus.changes()) as changes:
        for documents in changes:
            if not documents.num_rows:
                continue
            graph.kept("tokenizer")
            cut = graph.value("passages", changed_documents=documents)
            corpus.note_cut(cut)
            tokens = cut["tokens"].to_numpy()
            texts = graph.value("embedding_texts", passages=cut)
            paid = ~cache.contains(texts) if cache else np.ones(len(tokens), bool)
            if writer and not staged.billed_tokens and paid.any():
                graph.begin_model()  # it is ready when the plan is
            staged = Staged(
                staged.passages + cut.num_rows,
                staged.tokens + int(tokens.sum()),
                staged.billed_tokens + int(tokens[paid].sum()),
            )
            if writer:
                writer.add(cut)
    return staged


def _cut(found: dict[str, Any], fresh: np.ndarray, room: int) -> tuple[dict[str, Any], np.ndarray]:
    """A batch up to the last of so many fresh documents, and the questions about what is left."""
    end = int(np.flatnonzero(fresh)[room - 1]) + 1
    documents, asked = found["documents"].slice(0, end), found["questions"]
    kept = documents["document_id"].combine_chunks()
    cut = {
        "documents": documents,
        "document_digests": found["document_digests"][:end],
        "stored_positions": found["stored_positions"][:end],
        "questions": asked.filter(pc.is_in(asked["document_id"], kept)),
    }
    return found | cut, fresh[:end]
