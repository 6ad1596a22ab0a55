"""Exact search of many queries at once, against every score sorted."""

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from squadron.stores.exact_search import exact_neighbours
from tests.stores.subject import METRICS, exact_scores


@pytest.mark.parametrize("metric", METRICS)
@given(seed=st.integers(0, 2**32 - 1), cuts=st.lists(st.integers(0, 900), max_size=4), top_k=st.integers(1, 40))
def test_the_nearest_rows_do_not_depend_on_the_blocks(metric: str, seed: int, cuts: list[int], top_k: int) -> None:
    random = np.random.default_rng(seed)
    vectors = random.standard_normal((900, 8), np.float32)
    queries = random.standard_normal((7, 8), np.float32)
    rows = random.permutation(10_000)[:900]
    edges = [0, *sorted(cuts), 900]
    blocks = [(rows[start:end], vectors[start:end]) for start, end in pairwise(edges)]
    query, row, score = exact_neighbours(blocks, queries, metric, top_k)
    scores = exact_scores(queries, vectors, metric)
    best = np.argsort(-scores, axis=1, kind="stable")[:, :top_k]
    assert query.tolist() == np.repeat(np.arange(7), top_k).tolist()
    np.testing.assert_allclose(score, np.take_along_axis(scores, best, 1).ravel(), rtol=1e-4, atol=1e-4)
    column = {int(number): at for at, number in enumerate(rows)}
    np.testing.assert_allclose(scores[query, [column[int(number)] for number in row]], score, rtol=1e-4, atol=1e-4)
    assert len(set(zip(query.tolist(), row.tolist(), strict=True))) == len(row)


def test_fewer_rows_than_wanted_are_all_rows() -> None:
    vectors = np.eye(3, dtype=np.float32)
    query, row, _ = exact_neighbours([(np.array([5, 6, 7]), vectors)], vectors[:2], "cosine", 10)
    assert query.tolist() == [0, 0, 0, 1, 1, 1]
    assert row[[0, 3]].tolist() == [5, 6]


def test_no_rows_are_no_neighbours() -> None:
    query, row, score = exact_neighbours([], np.eye(2, dtype=np.float32), "cosine", 10)
    assert (len(query), len(row), len(score)) == (0, 0, 0)


def test_a_vector_without_a_direction_takes_no_other_ones_place() -> None:
    vectors = np.array([[1, 0], [0, 0], [1, 1], [0, 1]], np.float32)
    _, row, _ = exact_neighbours([(np.arange(4), vectors)], np.array([[1, 0]], np.float32), "cosine", 2)
    assert row.tolist() == [0, 2]
