"""Evaluation: how often, and how high, search finds the document that answers a question.

Each question has one relevant document, the one it was asked about. Documents are ranked by their best
passage. With a single relevant document at rank r: recall@k is 1 if r <= k, reciprocal rank is 1/r, and nDCG
is 1/log2(1 + r), the ideal gain being 1 (Järvelin and Kekäläinen 2002).
"""

import numpy as np
import pyarrow as pa

DEPTH = 10
# A long document may fill several places of a ranking with its passages: look further down, and where that is not
# enough for ten documents, further yet.
PASSAGES_SEARCHED, MOST_PASSAGES_SEARCHED = 3 * DEPTH, 96 * DEPTH


def ranks(questions: pa.Table, matches: pa.Table) -> np.ndarray:
    """`float64 [questions]`: the rank of the document that answers each question, inf beyond the tenth.

    `matches` has the columns query (position of the question), rank and document_id.
    """
    relevant = questions["document_id"].to_pylist()
    ranked: list[list[str]] = [[] for _ in relevant]
    ordered = matches.sort_by([("query", "ascending"), ("rank", "ascending")])
    for query, document in zip(ordered["query"].to_pylist(), ordered["document_id"].to_pylist(), strict=True):
        if document not in ranked[query]:
            ranked[query].append(document)
    relevant_ranks = [
        best.index(document) + 1 if document in best[:DEPTH] else np.inf
        for best, document in zip(ranked, relevant, strict=True)
    ]
    return np.array(relevant_ranks, np.float64)


def metrics(ranks: np.ndarray) -> dict[str, float]:
    """recall@1, @5, @10, MRR@10 and nDCG@10, means over the questions; empty without questions."""
    if not len(ranks):
        return {}
    return {
        "recall_at_1": float(np.mean(ranks <= 1)),
        "recall_at_5": float(np.mean(ranks <= 5)),
        "recall_at_10": float(np.mean(ranks <= DEPTH)),
        "mrr_at_10": float(np.mean(1 / ranks)),
        "ndcg_at_10": float(np.mean(1 / np.log2(1 + ranks))),
    }
