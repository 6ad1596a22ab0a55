"""Exact search: the nearest rows of many queries at once, by matrix products over blocks of rows.

A store's own exact search compares one query with one row at a time; the thousand questions of an evaluation are
answered several times faster together. Memory grows with a block, not with the rows.

Measured with LanceDB, medians of five interleaved rounds: of the processor time of a whole `squadron ingest` after a
small change, with 1,000 questions, it saves 5 % at 2,159 rows (4.5 s instead of 4.7) and 24 % at 18,000 (5.3 s instead
of 7.0).
"""

from collections.abc import Iterable, Iterator

import numpy as np

_FIRST_ROWS, _MOST_ROWS = 256, 4096


def exact_neighbours(
    blocks: Iterable[tuple[np.ndarray, np.ndarray]], queries: np.ndarray, metric: str, top_k: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Query (its position), row and score of the `top_k` nearest rows of each query: by query, best first.

    `blocks`: rows as numbers `int [n]` and their vectors `float32 [n, d]`; `queries`: `float32 [q, d]`. The score is
    the cosine (metric `cosine`), the inner product (`dot`), or the squared distance negated (`l2`).
    """
    numbers = np.arange(len(queries))
    query, row, score = numbers[:0], np.empty(0, np.int64), np.empty(0, np.float32)
    worst = np.full(len(queries), -np.inf, np.float32)
    for rows, vectors in _small_first(blocks):
        scores = _scores(queries, vectors, metric)
        if not len(row) and len(rows) > top_k:  # of the first rows the best: all of them would be sorted
            known = np.where(np.isnan(scores), -np.inf, scores)
            worst = np.nextafter(np.partition(known, -top_k, axis=1)[:, -top_k], -np.inf)
        near, column = np.nonzero(scores > worst[:, None])
        query, row = np.concatenate([query, near]), np.concatenate([row, rows[column]])
        score = np.concatenate([score, scores[near, column]])
        order = np.lexsort((row, -score, query))
        query, row, score = query[order], row[order], score[order]
        kept = np.arange(len(query)) - np.searchsorted(query, query) < top_k
        query, row, score = query[kept], row[kept], score[kept]
        last = np.searchsorted(query, numbers) + top_k - 1
        full = np.bincount(query, minlength=len(queries)) == top_k
        worst[full] = score[last[full]]
    return query, row, score


def _small_first(blocks: Iterable[tuple[np.ndarray, np.ndarray]]) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """The rows in blocks that grow: once a few rows are known, hardly any other comes into question."""
    size = _FIRST_ROWS
    for rows, vectors in blocks:
        start = 0
        while start < len(rows):
            yield rows[start : start + size], vectors[start : start + size]
            start, size = start + size, min(2 * size, _MOST_ROWS)


def _scores(queries: np.ndarray, vectors: np.ndarray, metric: str) -> np.ndarray:
    """`float32 [queries, vectors]`."""
    products: np.ndarray = queries @ vectors.T
    if metric == "dot":
        return products
    squares, lengths = np.square(queries).sum(1)[:, None], np.square(vectors).sum(1)[None]
    if metric == "l2":
        return 2 * products - squares - lengths
    with np.errstate(invalid="ignore"):  # of a vector without a length the cosine is no number
        return products / np.sqrt(squares * lengths)
