"""Planning: guards, the sample of questions, and memory that does not grow with the texts."""

import os
import subprocess
import sys
from random import Random

import pyarrow as pa
import pytest

from squadron.corpus.questions import QuestionSample, questions_digest
from squadron.errors import GuardError, SourceError
from squadron.runs.plan import plan_run
from tests.whole_runs import numbered, run, write_corpus

_SAMPLE_SCHEMA = pa.schema([(name, pa.string()) for name in ("question_id", "question", "document_id")])


def questions(numbers, document: str = "doc") -> pa.Table:
    rows = [{"question_id": f"q{n}", "question": f"What is {n}?", "document_id": f"{document}{n}"} for n in numbers]
    return pa.Table.from_pylist(rows, _SAMPLE_SCHEMA)


def sample_of(size: int, *batches: pa.Table) -> QuestionSample:
    sample = QuestionSample(size)
    for batch in batches:
        sample.add(batch)
    return sample


def digest_of(sample: QuestionSample) -> str:
    return questions_digest(sample.table())


def ids(sample: QuestionSample) -> set[str]:
    return set(sample.table()["question_id"].to_pylist())


class TestQuestionSample:
    """Bottom-k sampling."""

    def test_it_is_as_large_as_it_may_be_and_no_larger(self):
        batches = [questions(range(start, start + 100)) for start in range(0, 1000, 100)]

        assert [sample_of(size, *batches).table().num_rows for size in (0, 1, 99, 1000, 5000)] == [0, 1, 99, 1000, 1000]

    def test_it_depends_neither_on_the_order_nor_on_the_batches(self):
        numbers = list(range(500))
        first = sample_of(50, questions(numbers))
        Random(3).shuffle(numbers)

        second = sample_of(50, questions(numbers[:17]), questions([]), questions(numbers[17:]))

        assert second.table() == first.table()
        assert digest_of(second) == digest_of(first)

    def test_it_stays_nearly_the_same_when_the_corpus_changes_a_little(self):
        before = ids(sample_of(100, questions(range(1000))))

        after = ids(sample_of(100, questions(range(50, 1050))))

        assert before != after
        assert len(before & after) > 85

    def test_it_is_drawn_from_the_whole_corpus(self):
        numbers = [int(name[1:]) for name in ids(sample_of(200, questions(range(2000))))]

        assert 60 < sum(number < 1000 for number in numbers) < 140

    def test_a_question_that_comes_twice_is_taken_once(self):
        assert sample_of(10, questions([1, 2, 1]), questions([2])).table().num_rows == 2

    def test_which_of_two_questions_with_one_id_is_taken_does_not_depend_on_the_order(self):
        one, other = questions([1], "a"), questions([1], "b")

        assert sample_of(10, one, other).table() == sample_of(10, other, one).table()

    def test_its_digest_tells_a_changed_question_and_a_changed_document(self):
        digests = {
            digest_of(sample_of(10, questions([1, 2]))),
            digest_of(sample_of(10, questions([1, 2], "other"))),
            digest_of(sample_of(10, questions([1]))),
            digest_of(sample_of(10)),
        }

        assert len(digests) == 4

    def test_an_empty_sample_has_the_columns_of_a_full_one(self):
        assert sample_of(10).table().schema == sample_of(10, questions([1])).table().schema


@pytest.fixture
def stored(settings_with, tmp_path):
    """A hundred documents in the store; returns settings that read another corpus."""
    run(settings_with(**write_corpus(tmp_path / "corpus.jsonl", numbered(*range(100)))))

    def reading(rows, **changes):
        return settings_with(**write_corpus(tmp_path / "corpus.jsonl", rows), **changes)

    return reading


def test_a_quarter_of_the_documents_may_go(stored):
    assert plan_run(stored(numbered(*range(25, 100))), "run").deleted == 25


def test_more_than_a_quarter_may_not_go_unless_the_setting_says_so(stored):
    rest = numbered(*range(26, 100))

    with pytest.raises(GuardError) as caught:
        plan_run(stored(rest), "run")

    assert "the corpus lacks 26.0% of the documents in the store" in str(caught.value)
    assert "guard.max_deleted_fraction allows 25.0%" in str(caught.value)
    assert plan_run(stored(rest, **{"guard.max_deleted_fraction": 0.26}), "run").deleted == 26


def test_new_documents_do_not_make_up_for_those_that_went(stored):
    with pytest.raises(GuardError, match=r"lacks 50\.0%"):
        plan_run(stored(numbered(*range(50, 1000))), "run")


def test_changing_every_document_is_not_deleting_them(stored):
    plan = plan_run(stored(numbered(*range(100), title="Changed")), "run")

    assert (plan.to_embed, plan.deleted) == (100, 100)


def test_a_limit_below_what_is_stored_is_a_deletion(stored):
    with pytest.raises(GuardError, match=r"lacks 90\.0%"):
        plan_run(stored(numbered(*range(100)), **{"source.limit": 10}), "run")


def test_a_few_blank_rows_are_counted_and_left_out(stored):
    plan = plan_run(stored([*numbered(*range(100)), *numbered(100, 101, context=" ")]), "run")

    assert (plan.documents, plan.quarantined, plan.to_embed) == (100, 2, 0)


def test_many_blank_rows_are_refused_unless_the_setting_says_so(stored):
    rows = [*numbered(*range(100)), *numbered(*range(100, 110), context=None)]

    with pytest.raises(GuardError) as caught:
        plan_run(stored(rows), "run")

    assert str(caught.value) == (
        "10 rows have no text beside 100 that have one (9.1%): "
        "guard.max_quarantined_fraction allows 5.0%. Mend the corpus, or raise that for this run"
    )
    assert plan_run(stored(rows, **{"guard.max_quarantined_fraction": 0.1}), "run").quarantined == 10


def test_a_document_that_comes_again_is_stored_once(stored):
    plan = plan_run(stored([*numbered(*range(100)), *numbered(5, 7, 200), *numbered(200)]), "run")

    assert (plan.documents, plan.to_embed) == (101, 1)


@pytest.mark.parametrize("change", [{"context": "Another text."}, {"title": "Another title"}])
@pytest.mark.parametrize("number", [5, 500], ids=["stored", "new"])
def test_one_id_for_different_documents_is_left_as_it_is(stored, change, number):
    rows = [*numbered(*range(100), 500), *numbered(number, **change)]

    plan = plan_run(stored(rows), "run")

    assert (plan.documents, plan.quarantined, plan.unchanged) == (100, 1, 100)
    assert (plan.to_embed, plan.deleted, plan.held_back) == ((1, 0, 1) if number == 5 else (0, 0, 0))


def test_many_ids_for_different_documents_are_refused(stored):
    rows = [*numbered(*range(100)), *numbered(*range(10), context="Another text.")]

    with pytest.raises(GuardError) as caught:
        plan_run(stored(rows), "run")

    assert "20 rows cannot be read, or have no text, beside 90 that can and do (18.2%)" in str(caught.value)
    assert "document 'doc-00000': stands for 2 different texts, titles or metadata: ids must be un" in str(caught.value)


def test_metadata_that_differs_between_the_rows_of_a_document_is_refused(settings_with, tmp_path):
    rows = [{"context": "Tea is a drink.", "author": author} for author in "AB"]
    changes = write_corpus(tmp_path / "corpus.jsonl", rows) | {
        "source.columns.document_id": None,
        "source.columns.metadata": ["author"],
    }

    with pytest.raises(SourceError, match=r"begins 'Tea is a drink\.': different metadata in its rows"):
        plan_run(settings_with(**changes), "run")


_MEASURED = """
import resource, sys
import pyarrow as pa
from squadron.settings import registry
from squadron.runs.plan import plan_run
from squadron.settings.layers import Layer, resolve
from pathlib import Path

folder = Path(sys.argv[1])
registry.SOURCES["endless"] = "endless_source"

def plan(rows):
    values = {
        "collection": "books", "source.name": "endless", "source.limit": rows, "embedding.service": "hashing",
        "store.lancedb.uri": "lancedb", "ingest.staging": "staging", "ingest.shard_passages": 2000,
        "embedding.hashing.max_tokens": 2000,
    }
    found = plan_run(resolve([Layer("test", values, folder)]).settings, "run")
    assert found.documents == rows, found.documents
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024

few, many = plan(2_000), plan(15_000)
print(many - few)
"""
_ENDLESS = """
import pyarrow as pa
from squadron.settings.schema import ColumnSettings
from squadron.sources.rows import row_schema

def read_rows(source):
    for batch in range(1000):
        numbers = [str(n) for n in range(batch * 1000, batch * 1000 + 1000)]
        texts = [f"{n} " + "filling " * 1000 for n in numbers]
        yield pa.RecordBatch.from_arrays(
            [pa.nulls(1000, pa.string()), pa.array(numbers), pa.array(texts), pa.array(numbers), pa.array(numbers)],
            schema=row_schema(ColumnSettings()),
        )
"""


@pytest.mark.slow
def test_memory_does_not_grow_with_the_texts(tmp_path):
    """Thirteen thousand more documents of 8,000 characters, 100 MB: their digests take some 2 MB, and that is all."""
    (tmp_path / "endless_source.py").write_text(_ENDLESS)

    measured = subprocess.run(
        [sys.executable, "-c", _MEASURED, str(tmp_path)],
        env=os.environ | {"PYTHONPATH": os.pathsep.join([str(tmp_path), os.environ.get("PYTHONPATH", "")])},
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )

    assert int(measured.stdout) < 75
