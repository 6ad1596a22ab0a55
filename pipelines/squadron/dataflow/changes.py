"""Changes: what the corpus holds that the store does not, and the other way round."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from squadron.dataflow.digests import Digests, from_hex, to_hex
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
    wanted = np.maximum.reduceat(totals, starts) if len(ids) else totals
    digests = digests if len(starts) == len(ids) else digests[starts]
    return StoredDocuments(ids, digests, document_of, np.diff(starts, append=len(ids)) == wanted)


def document_digests(documents: pa.Table) -> Digests:
    """The digests of the documents, in their order."""
    return Digests.of_column(documents["digest"])


def stored_positions(document_digests: Digests, stored_documents: StoredDocuments) -> np.ndarray:
    """`int64 [documents]`: where each document stands in `stored_documents.digests`; -1: nowhere."""
    return stored_documents.digests.positions(document_digests)


def changed_documents(documents: pa.Table, stored_positions: np.ndarray, stored_documents: StoredDocuments) -> pa.Table:
    """The documents that are not, or not completely, in the store: new ones and new versions."""
    found = stored_positions >= 0
    found[found] = stored_documents.complete[stored_positions[found]]
    return documents.filter(pa.array(~found))


def expired_ids(stored_documents: StoredDocuments, seen: np.ndarray) -> pa.Array:
    """The stored ids that no document of the corpus explains. `seen`: `bool [d]`, over the stored digests."""
    return to_hex(stored_documents.ids[~seen[stored_documents.document_of]])


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
