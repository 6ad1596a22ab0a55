"""The gate: what is worse does not go live, and what went live by being changed in place is taken back."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from squadron.corpus.probes import ProbeSample, sentence_of
from squadron.dataflow.driver import shared_graph
from squadron.errors import GateError
from squadron.generations.catalog import generations
from squadron.runs.evaluate import evaluate
from squadron.runs.finish import finish
from squadron.runs.ingest_shard import ingest_shard
from squadron.runs.plan import plan_run
from squadron.runs.promote import promote
from squadron.runs.whole_run import ingest
from squadron.settings.schema import Settings
from tests.whole_runs import live, numbered, run, stored_rows, write_corpus

Changed = Callable[..., Settings]


@pytest.fixture
def corpus(tmp_path: Path) -> Callable[..., dict]:
    """Writes the corpus anew and returns the settings that read it."""
    return lambda rows: write_corpus(tmp_path / "corpus.jsonl", rows)


def test_a_change_in_place_that_makes_answers_worse_is_taken_back(settings_with: Changed, corpus) -> None:
    settings = settings_with(**corpus(numbered(*range(40))))
    first = ingest(settings)
    before = stored_rows(settings, first["generation"])
    corpus(numbered(*range(40), context="Nothing that anybody asked about."))

    with pytest.raises(GateError, match=r"recall@10 fell from 1\.0000 .* holds again the 40 rows from before"):
        ingest(settings)

    assert stored_rows(settings, first["generation"]) == before
    assert live(settings) == first["generation"]
    assert generations(settings)[0]["metrics"]["recall_at_10"] == 1


def test_after_a_change_was_taken_back_a_good_one_is_stored(settings_with: Changed, corpus) -> None:
    settings = settings_with(**corpus(numbered(*range(40))))
    ingest(settings)
    corpus(numbered(*range(40), context="Nothing that anybody asked about."))
    with pytest.raises(GateError):
        ingest(settings)
    corpus(numbered(*range(41)))

    report = ingest(settings)

    assert report["counts"]["written"] == 1
    assert report["metrics"]["recall_at_10"] == 1


def test_a_candidate_is_compared_with_the_live_one_on_the_same_questions(settings_with: Changed, corpus) -> None:
    """The live one answers the new questions no better: what was recorded on easier ones is not held against it."""
    hard = "Which thing is like many others?"
    changes = corpus(numbered(*range(60)))
    first = ingest(settings_with(**changes))
    corpus(numbered(*range(60), question=hard))

    second = ingest(settings_with(**changes, **{"passages.template": "plain_v1"}))

    assert first["metrics"]["recall_at_10"] == 1
    assert second["metrics"]["recall_at_10"] < 0.5
    assert second["live"] == second["generation"] != first["generation"]


def test_rows_that_are_not_as_they_were_written_do_not_go_live(settings_with: Changed, corpus) -> None:
    settings = settings_with(**corpus(numbered(*range(9))))
    plan = plan_run(settings, "run")
    for shard in plan.shards:
        ingest_shard(settings, plan, shard)
    finish(settings, plan)
    table = shared_graph(settings).value("generation_table", generation=plan.generation)
    rows = table.to_arrow()
    broken = pa.FixedSizeListArray.from_arrays(pa.array(np.zeros(256 * rows.num_rows, np.float32)), 256)
    table.merge_insert("id").when_matched_update_all().execute(
        rows.set_column(rows.column_names.index("vector"), rows.schema.field("vector"), broken)
    )

    evaluation = evaluate(settings, plan)
    with pytest.raises(GateError, match=r"9 of the rows read back are not sound.*length 0\.0"):
        promote(settings, plan, evaluation)

    assert live(settings) is None


def test_a_corpus_without_questions_is_measured_by_probes_of_its_own(settings_with: Changed, corpus) -> None:
    settings = settings_with(**corpus(numbered(*range(50), question=None)))

    report = ingest(settings)

    assert (report["asked"], report["questions"]) == ("probes", 50)
    assert report["metrics"]["recall_at_10"] == 1
    assert ingest(settings)["reused"]


def test_probes_guard_a_corpus_without_questions(settings_with: Changed, corpus) -> None:
    changes = corpus(numbered(*range(50), question=None))
    first = ingest(settings_with(**changes))

    with pytest.raises(GateError, match="on 50 probes"):
        run(settings_with(**changes, **{"embedding.hashing.dimension": 8}))

    assert live(settings_with(**changes)) == first["generation"]


def test_probes_do_not_depend_on_the_order_of_the_corpus() -> None:
    digests = [bytes([7 * number % 256]) * 12 for number in range(90)]
    rows = pa.table(
        {
            "digest": pa.array(digests, pa.binary(12)),
            "document_id": [str(number) for number in range(90)],
            "text": [
                f"Text {number}. It has sentences, and this is the longest of number {number}." for number in range(90)
            ],
        }
    )

    def sampled(*batches: pa.Table) -> pa.Table:
        sample = ProbeSample(20)
        for batch in batches:
            sample.add(batch)
        return sample.table()

    whole = sampled(rows)
    assert whole.num_rows == 20
    assert sampled(rows.slice(60), rows.slice(0, 60), rows.slice(10, 5)).equals(whole)
    smallest = sorted(range(90), key=lambda number: digests[number])[:20]
    assert whole["document_id"].to_pylist() == [str(number) for number in smallest]


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("Short. This one is longer. No.", "This one is longer."),
        (
            "東京は日本の首都です。人口は約千四百万人で、世界でも有数の大都市です。",
            "人口は約千四百万人で、世界でも有数の大都市です。",
        ),
        ("no sentence at all", "no sentence at all"),
        ("x" * 1000, "x" * 300),
    ],
)
def test_a_probe_is_the_longest_sentence(text: str, sentence: str) -> None:
    assert sentence_of(text) == sentence
