"""Changes: what the corpus holds that the store does not, and the other way round; decided batch by batch."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from squadron.dataflow.digests import Digests, DigestSet, from_hex, to_hex
from squadron.errors import StoreError

ID_DIGITS = 32
_IDS_AT_ONCE = 1 << 16


@dataclass(frozen=True)
class StoredDocuments:
    """What the ids of a generation say about it. n ids of passages, d distinct document digests."""

    ids: np.ndarray
    """`uint8 [n, 16]`: the passage ids as bytes, ascending."""
    digests: Digests
    """`[d]`: document digests, ascending."""
    document_of: np.ndarray
    """`int32 [n]`: each id's position in `digests`, ascending."""
    complete: np.ndarray
    """`bool [d]`: whether all passages of the document are there."""


def stored_documents(stored_ids: Iterable[pa.Array]) -> StoredDocuments:
    """The documents that a store's passage ids stand for, complete ones and others.

    Raises StoreError when an id is not one of ours.
    """
    raw = bytearray()  # grows in place: a list of arrays would be there twice when it is joined
    for ids in _id_bytes(stored_ids):
        raw += ids.tobytes()
    ids = np.frombuffer(raw, np.uint8).reshape(-1, ID_DIGITS // 2)
    ids.view(f"S{ID_DIGITS // 2}").sort(axis=0)
    digests = Digests.read(ids)
    first = np.ones(len(ids), bool)
    first[1:] = (digests.high[1:] != digests.high[:-1]) | (digests.low[1:] != digests.low[:-1])
    (starts,) = np.nonzero(first)
    document_of = np.cumsum(first, dtype=np.int32) - 1
    totals = ids[:, 14].astype(np.uint16) << 8 | ids[:, 15]
    totals = np.maximum.reduceat(totals, starts) if len(ids) else totals
    digests = digests if len(starts) == len(ids) else digests[starts]
    return StoredDocuments(ids, digests, document_of, np.diff(starts, append=len(ids)) == totals)


def document_digests(documents: pa.Table) -> Digests:
    """The digests of the documents, in their order."""
    return Digests.of_column(documents["digest"])


def stored_positions(document_digests: Digests, stored_documents: StoredDocuments) -> np.ndarray:
    """`int64 [documents]`: where each document stands in `stored_documents.digests`; -1: nowhere."""
    return stored_documents.digests.positions(document_digests)


def first_appearances(
    document_digests: Digests,
    stored_positions: np.ndarray,
    seen: np.ndarray,
    earlier_changes: DigestSet,
    repeated_identities: np.ndarray,
) -> np.ndarray:
    """`bool [documents]`: which of them this pass over the corpus meets for the first time.

    `seen`: `bool [stored documents]`, those of earlier batches; `earlier_changes`: digests of the changed documents of
    earlier batches; `repeated_identities`: documents that are left out, `Digests.identities`.
    """
    earlier = earlier_changes.contains(document_digests) | _repeated(document_digests, repeated_identities)
    stored = stored_positions >= 0
    earlier[stored] |= seen[stored_positions[stored]]
    return ~earlier


def in_corpus(
    document_digests: Digests,
    first_appearances: np.ndarray,
    repeated_identities: np.ndarray,
    document_limit: int | None,
) -> np.ndarray:
    """`bool [documents]`: which of them are of the corpus, neither left out nor beyond its limit.

    `document_limit`: how many first appearances there may be, 1 or more; the batch ends with the last of them.
    """
    chosen = ~_repeated(document_digests, repeated_identities)
    if document_limit is not None and document_limit <= first_appearances.sum():
        chosen[np.flatnonzero(first_appearances)[document_limit - 1] + 1 :] = False
    return chosen


def corpus_documents(documents: pa.Table, in_corpus: np.ndarray) -> pa.Table:
    """The documents of the batch that are of the corpus; columns as in `documents`."""
    return documents if in_corpus.all() else documents.filter(pa.array(in_corpus))


def corpus_questions(questions: pa.Table, in_corpus: np.ndarray, corpus_documents: pa.Table) -> pa.Table:
    """The questions about these documents; columns as in `questions`."""
    if in_corpus.all():
        return questions
    return questions.filter(pc.is_in(questions["document_id"], corpus_documents["document_id"].combine_chunks()))


def seen_positions(stored_positions: np.ndarray, first_appearances: np.ndarray, in_corpus: np.ndarray) -> np.ndarray:
    """`int64`: positions in `stored_documents.digests` of what the corpus shows for the first time in this batch."""
    return stored_positions[first_appearances & in_corpus & (stored_positions >= 0)]


def changed(
    stored_positions: np.ndarray,
    stored_documents: StoredDocuments,
    first_appearances: np.ndarray,
    in_corpus: np.ndarray,
) -> np.ndarray:
    """`bool [documents]`: first appearances that are not, or not completely, in the store; new ids and new versions."""
    complete = stored_positions >= 0
    complete[complete] = stored_documents.complete[stored_positions[complete]]
    return first_appearances & in_corpus & ~complete


def changed_documents(documents: pa.Table, changed: np.ndarray) -> pa.Table:
    """The changed documents of the batch; columns as in `documents`."""
    return documents.filter(pa.array(changed))


def changed_digests(document_digests: Digests, changed: np.ndarray) -> Digests:
    """Their digests."""
    return document_digests[changed]


def expired_ids(stored_documents: StoredDocuments, seen: np.ndarray) -> pa.Array:
    """The stored ids that no document of the corpus explains. `seen`: `bool [d]`, over the stored digests."""
    return to_hex(stored_documents.ids[~seen[stored_documents.document_of]])


def _repeated(digests: Digests, identities: np.ndarray) -> np.ndarray:
    return np.isin(digests.identities(), identities) if len(identities) else np.zeros(len(digests), bool)


def _id_bytes(stored_ids: Iterable[pa.Array]) -> Iterator[np.ndarray]:
    """Ids of 32 hex digits as `uint8 [n, 16]`."""
    for array in stored_ids:
        for start in range(0, len(array), _IDS_AT_ONCE):
            part = array.slice(start, _IDS_AT_ONCE)
            ids, foreign = from_hex(part, ID_DIGITS)
            if foreign >= 0:
                raise StoreError(
                    f"the store holds an id that is not a passage id: {part[foreign].as_py()!r} "
                    f"(wanted {ID_DIGITS} hex digits). Something else wrote into this generation: "
                    "choose another collection, or remove those rows"
                )
            yield ids
