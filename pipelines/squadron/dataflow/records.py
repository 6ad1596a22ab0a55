"""Records: passages with their vectors, as the stores take them."""

import numpy as np
import pyarrow as pa

from squadron.errors import EmbeddingError
from squadron.stores.record_schema import VECTOR_COLUMN


def records(passages: pa.Table, embeddings: np.ndarray, dimension: int) -> pa.Table:
    """The passages and their vectors: id, document_id, title, ordinal, text, metadata columns, vector.

    Raises EmbeddingError when the vectors are not `float32 [passages, dimension]`, finite and of unit length.
    """
    if embeddings.shape != (passages.num_rows, dimension) or embeddings.dtype != np.float32:
        raise EmbeddingError(
            f"the embedding service gave {embeddings.dtype} {list(embeddings.shape)}, "
            f"wanted float32 [{passages.num_rows}, {dimension}]"
        )
    lengths = np.linalg.norm(embeddings, axis=1)
    wrong = np.flatnonzero(~(np.abs(lengths - 1) < 1e-3))
    if len(wrong):
        raise EmbeddingError(
            f"the vector of passage {passages['id'][int(wrong[0])]} has length {lengths[wrong[0]]}, wanted 1 "
            f"({len(wrong)} of {len(lengths)} vectors of this batch): nothing of the batch was written"
        )
    values = pa.array(embeddings.ravel())
    vectors = pa.FixedSizeListArray.from_arrays(values, dimension)
    return passages.drop_columns(["tokens"]).append_column(VECTOR_COLUMN, vectors)
