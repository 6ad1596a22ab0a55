"""Evaluation: ranks and figures against values worked out by hand."""

from math import log2

import numpy as np
import pyarrow as pa
import pytest

from squadron.dataflow.evaluation import DEPTH, PASSAGES_SEARCHED, metrics, ranks


def questions_about(*documents: str) -> pa.Table:
    return pa.table({"document_id": pa.array(documents, pa.string())})


def matches_of(*rankings: str) -> pa.Table:
    """One ranking of one-letter documents for each question, best first."""
    rows = [(query, rank, document) for query, found in enumerate(rankings) for rank, document in enumerate(found, 1)]
    columns = [list(column) for column in zip(*rows, strict=True)] or [[], [], []]
    types = {"query": pa.int32(), "rank": pa.int32(), "document_id": pa.string()}
    arrays = [pa.array(values, kind) for values, kind in zip(columns, types.values(), strict=True)]
    return pa.table(dict(zip(types, arrays, strict=True)))


def rank_list(questions: pa.Table, matches: pa.Table) -> list[float]:
    return ranks(questions, matches).tolist()


def test_the_rank_is_that_of_the_document_asked_about():
    assert rank_list(questions_about("a", "b", "c"), matches_of("abc", "abc", "abc")) == [1, 2, 3]


def test_a_document_counts_once_however_many_passages_it_fills_the_ranking_with():
    assert rank_list(questions_about("b", "c"), matches_of("aaaab", "abababc")) == [2, 3]


def test_what_is_not_among_the_first_ten_documents_is_not_found():
    many = "abcdefghijklmnop"

    assert rank_list(questions_about("j", "k", "z"), matches_of(many, many, many)) == [10, np.inf, np.inf]


def test_ten_documents_can_be_found_below_long_ones():
    assert PASSAGES_SEARCHED == 30
    ranking = "a" * 21 + "bcdefghij"

    assert rank_list(questions_about("j"), matches_of(ranking)) == [DEPTH]


def test_the_order_of_the_rows_does_not_matter():
    shuffled = matches_of("abc", "bca").take([4, 0, 2, 5, 1, 3])

    assert rank_list(questions_about("c", "a"), shuffled) == [3, 3]


def test_a_question_without_matches_is_not_found():
    assert rank_list(questions_about("a", "b", "a"), matches_of("a", "", "ba")) == [1, np.inf, 2]


def test_figures_are_those_worked_out_by_hand():
    found = metrics(np.array([1, 2, 6, 10, np.inf]))

    assert found == {
        "recall_at_1": pytest.approx(1 / 5),
        "recall_at_5": pytest.approx(2 / 5),
        "recall_at_10": pytest.approx(4 / 5),
        "mrr_at_10": pytest.approx((1 + 1 / 2 + 1 / 6 + 1 / 10) / 5),
        "ndcg_at_10": pytest.approx((1 + 1 / log2(3) + 1 / log2(7) + 1 / log2(11)) / 5),
    }


def test_perfect_answers_give_ones_and_none_give_zeros():
    assert set(metrics(np.ones(7)).values()) == {1.0}
    assert set(metrics(np.full(7, np.inf)).values()) == {0.0}


def test_without_questions_there_are_no_figures():
    assert metrics(ranks(questions_about(), matches_of())) == {}
