"""Changes: what the corpus holds that the store does not, and the other way round."""

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from pipelines.dataflow.documents import DIGEST_BYTES
from pipelines.errors import StoreError

ID_DIGITS = 32


@dataclass(frozen=True)
class StoredDocuments:
    """What the ids of a generation say about it. n ids of passages, d distinct document digests."""

    ids: np.ndarray
    """`uint8 [n, 16]`: the passage ids, as bytes."""
    digests: np.ndarray
    """`S12 [d]`: document digests, ascending."""
    document_of: np.ndarray
    """`int64 [n]`: each id's position in `digests`."""
    complete: np.ndarray
    """`bool [d]`: whether all passages of the document are there."""


def stored_documents(stored_ids: Iterable[pa.Array]) -> StoredDocuments:
    """The documents that a store's passage ids stand for, complete ones and others.

    Raises StoreError when an id is not one of ours.
    """
    parts = [_id_bytes(array) for array in stored_ids if len(array)]
    ids = np.concatenate(parts) if parts else np.empty((0, ID_DIGITS // 2), np.uint8)
    digests, document_of, counts = np.unique(_as_digests(ids), return_inverse=True, return_counts=True)
    wanted = np.zeros(len(digests), np.int64)
    np.maximum.at(wanted, document_of, ids[:, 14].astype(np.int64) << 8 | ids[:, 15])
    return StoredDocuments(ids, digests, document_of, counts == wanted)


def stored_positions(documents: pa.Table, stored_documents: StoredDocuments) -> np.ndarray:
    """`int64 [documents]`: where each document stands in `stored_documents.digests`; -1: nowhere."""
    digests = _column_digests(documents["digest"])
    if not len(stored_documents.digests):
        return np.full(len(digests), -1)
    positions = np.searchsorted(stored_documents.digests, digests)
    positions[positions == len(stored_documents.digests)] = 0
    return np.where(stored_documents.digests[positions] == digests, positions, -1)


def changed_documents(documents: pa.Table, stored_positions: np.ndarray, stored_documents: StoredDocuments) -> pa.Table:
    """The documents that are not, or not completely, in the store: new ones and new versions."""
    found = stored_positions >= 0
    found[found] = stored_documents.complete[stored_positions[found]]
    return documents.filter(pa.array(~found))


def expired_ids(stored_documents: StoredDocuments, seen: np.ndarray) -> pa.Array:
    """The stored ids that no document of the corpus explains. `seen`: `bool [d]`, over the stored digests."""
    expired = stored_documents.ids[~seen[stored_documents.document_of]]
    return pa.array([row.tobytes().hex() for row in expired], pa.string())


def _id_bytes(array: pa.Array) -> np.ndarray:
    """Ids of 32 hex digits as `uint8 [n, 16]`."""
    text = array.cast(pa.string())
    ours = pc.fill_null(pc.match_substring_regex(text, f"^[0-9a-f]{{{ID_DIGITS}}}$"), False)
    if (first := pc.index(ours, False).as_py()) >= 0:
        raise StoreError(
            f"the store holds an id that is not a passage id: {text[first].as_py()!r} (wanted {ID_DIGITS} hex digits). "
            "Something else wrote into this generation: choose another collection, or remove those rows"
        )
    return np.frombuffer(bytes.fromhex("".join(text.to_pylist())), np.uint8).reshape(-1, ID_DIGITS // 2)


def _as_digests(ids: np.ndarray) -> np.ndarray:
    return np.ascontiguousarray(ids[:, :DIGEST_BYTES]).view(f"S{DIGEST_BYTES}").ravel()


def _column_digests(column: pa.ChunkedArray) -> np.ndarray:
    values = b"".join(column.to_pylist())
    return np.frombuffer(values, f"S{DIGEST_BYTES}")
