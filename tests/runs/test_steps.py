"""Steps: what runs do to a store, run after run, crash after crash. Hashed words, LanceDB, a corpus in a file."""

from random import Random

import pyarrow as pa
import pytest

from squadron.dataflow.driver import shared_graph
from squadron.errors import GateError, GuardError, StaleLiveError, StoreError
from squadron.generations.catalog import Generations, generations
from squadron.generations.live_pointer import promote_generation, rollback
from squadron.generations.measuring import measure
from squadron.generations.search import search
from squadron.runs.evaluate import evaluate
from squadron.runs.finish import finish
from squadron.runs.ingest_shard import ingest_shard
from squadron.runs.plan import plan_run
from squadron.runs.promote import promote
from squadron.runs.results import Ingested
from tests.whole_runs import live, numbered, run, stored_rows, tree, write_corpus


@pytest.fixture
def corpus(tmp_path):
    """Writes the corpus anew and returns the settings that read it."""

    def written(rows):
        return write_corpus(tmp_path / "corpus.jsonl", rows)

    return written


def test_a_first_run_stores_every_passage_and_goes_live(settings_with):
    settings = settings_with()

    first = run(settings)

    assert first.plan.documents == 104
    assert (
        first.plan.to_embed
        == first.ingested.written
        == first.finished.rows
        == len(stored_rows(settings, live(settings)))
    )
    assert first.plan.tokens == first.ingested.tokens > 10_000
    assert first.evaluation.metrics.keys() == {"recall_at_1", "recall_at_5", "recall_at_10", "mrr_at_10", "ndcg_at_10"}
    assert first.promotion.live == first.plan.generation
    assert first.promotion.previous is None


def test_a_second_run_embeds_writes_and_deletes_nothing(settings_with):
    settings = settings_with()
    before = run(settings)
    rows = stored_rows(settings, before.plan.generation)

    again = run(settings, "another")

    assert (again.plan.shards, again.plan.to_embed, again.plan.deleted) == ([], 0, 0)
    assert again.ingested == Ingested()
    assert again.evaluation.reused
    assert again.evaluation.metrics == before.evaluation.metrics
    assert (again.promotion.live, again.promotion.promoted) == (before.plan.generation, False)
    assert stored_rows(settings, again.plan.generation) == rows


def test_what_changed_is_written_and_what_went_is_deleted_and_nothing_else(settings_with, corpus, tmp_path):
    settings = settings_with(**corpus(numbered(*range(600))))
    first = run(settings)
    before = stored_rows(settings, first.plan.generation)
    changed, kept = numbered(*range(6), context="Something else entirely."), numbered(*range(12, 600))

    corpus(changed + kept)
    second = run(settings, "another")
    after = stored_rows(settings, second.plan.generation)

    assert (second.plan.to_embed, second.ingested.written) == (6, 6)
    assert (second.plan.deleted, second.finished.deleted) == (12, 12)
    assert second.finished.rows == len(after) == 594
    assert {row["document_id"] for i, row in after.items() if i not in before} == {row["id"] for row in changed}
    fresh = settings_with(**corpus(changed + kept), **{"store.lancedb.uri": str(tmp_path / "fresh")})
    assert stored_rows(fresh, run(fresh, "fresh").plan.generation) == after


def test_the_order_of_the_corpus_does_not_matter(settings_with, corpus):
    rows = numbered(*range(2500))
    settings = settings_with(**corpus(rows))
    first = run(settings)

    Random(7).shuffle(rows)
    corpus(rows)
    second = run(settings, "another")

    assert (second.plan.to_embed, second.plan.deleted) == (0, 0)
    assert second.plan.questions_digest == first.plan.questions_digest
    assert second.evaluation.reused


def test_changed_metadata_and_titles_are_changes(settings_with, corpus):
    columns = {"source.columns.metadata": ["author"]}
    settings = settings_with(**corpus(numbered(*range(9), author="A")), **columns)
    run(settings)

    corpus([*numbered(0, author="B"), *numbered(1, author="A", title="Other"), *numbered(*range(2, 9), author="A")])
    second = run(settings, "another")

    assert (second.plan.to_embed, second.plan.deleted) == (2, 2)
    rows = stored_rows(settings, second.plan.generation).values()
    assert sorted((row["author"], row["title"]) for row in rows)[-1] == ("B", "Number 0")


def test_a_document_with_a_passage_missing_is_written_again(settings_with, corpus):
    long = [{"id": "long", "context": "A sentence of seven words it is. " * 200}]
    settings = settings_with(**corpus(long + numbered(*range(5))), **{"passages.max_tokens": 64})
    first = run(settings)
    before = stored_rows(settings, first.plan.generation)
    pieces = [i for i, row in before.items() if row["document_id"] == "long"]
    graph = shared_graph(settings)
    table = graph.value("generation_table", generation=first.plan.generation)
    graph.value("rows_deleted", generation_table=table, expired_ids=pa.array(pieces[3:5]))

    second = run(settings, "another")

    assert len(pieces) > 10
    assert (second.plan.to_embed, second.plan.deleted) == (len(pieces), 0)
    assert stored_rows(settings, second.plan.generation) == before


def test_rows_of_another_program_in_the_generation_are_refused(settings_with, corpus):
    settings = settings_with(**corpus(numbered(*range(5))))
    first = run(settings)
    table = shared_graph(settings).value("generation_table", generation=first.plan.generation)
    table.add(table.to_arrow().slice(0, 1).set_column(0, "id", pa.array(["row-1"])).cast(table.schema))

    with pytest.raises(StoreError, match="holds an id that is not a passage id: 'row-1'"):
        plan_run(settings, "another")


def test_a_changed_template_is_a_new_generation_beside_the_live_one(settings_with, corpus):
    changes = corpus(numbered(*range(30)))
    before, after = settings_with(**changes), settings_with(**changes, **{"passages.template": "plain_v1"})
    first = run(before)
    rows = stored_rows(before, first.plan.generation)

    plan = plan_run(after, "another")
    for shard in plan.shards:
        ingest_shard(after, plan, shard)
    finish(after, plan)
    evaluation = evaluate(after, plan)

    assert plan.generation != first.plan.generation
    assert live(after) == first.plan.generation
    assert not evaluation.reused
    promotion = promote(after, plan, evaluation)
    assert (promotion.live, promotion.previous, promotion.promoted) == (plan.generation, first.plan.generation, True)
    assert stored_rows(before, first.plan.generation) == rows


@pytest.mark.parametrize("last", ["plan", "one shard", "ingest", "finish", "evaluate"])
@pytest.mark.parametrize("run_id", ["run", "another"])
def test_a_run_that_broke_off_is_resumed_by_the_next(settings_with, corpus, tmp_path, last, run_id):
    cut = {"ingest.shard_passages": 10, "ingest.batch_passages": 4}
    settings = settings_with(**corpus(numbered(*range(30))), **cut)
    run(settings, "before")
    corpus(numbered(*range(5, 60)))
    broken = plan_run(settings, "run")
    for shard in broken.shards[: {"plan": 0, "one shard": 1}.get(last)]:
        ingest_shard(settings, broken, shard)
    if last in ("finish", "evaluate"):
        finish(settings, broken)
    if last == "evaluate":
        evaluate(settings, broken)

    resumed = run(settings, run_id)

    written = {"plan": 0, "one shard": 10}.get(last, 30)
    assert broken.to_embed == 30
    assert resumed.plan.to_embed == resumed.ingested.written == 30 - written
    fresh = settings_with(**corpus(numbered(*range(5, 60))), **cut, **{"store.lancedb.uri": str(tmp_path / "fresh")})
    from_scratch = run(fresh, "fresh")
    assert stored_rows(settings, live(settings)) == stored_rows(fresh, from_scratch.plan.generation)
    assert resumed.evaluation.metrics == from_scratch.evaluation.metrics
    assert not resumed.evaluation.reused


def test_what_broke_off_before_the_index_was_built_is_indexed(settings_with, corpus):
    settings = settings_with(**corpus(numbered(*range(30))))
    run(settings)
    corpus(numbered(*range(40)))
    broken = plan_run(settings, "broken")
    ingest_shard(settings, broken, broken.shards[0])

    resumed = run(settings, "another")

    assert resumed.finished.index == "none: exact search over 40 rows"


@pytest.mark.parametrize("last", ["ingest", "finish", "evaluate"])
def test_figures_from_before_a_run_that_broke_off_do_not_stand(settings_with, corpus, last):
    settings = settings_with(**corpus(numbered(*range(30))))
    run(settings)
    corpus(numbered(*range(30), context="The same for all of them.", title=""))
    broken = plan_run(settings, "broken")
    ingest_shard(settings, broken, broken.shards[0])
    if last in ("finish", "evaluate"):
        finish(settings, broken)
    if last == "evaluate":
        evaluate(settings, broken)

    resumed = run(settings.model_copy(update={"gate": settings.gate.model_copy(update={"max_drop": 1.0})}), "another")

    assert resumed.plan.to_embed == 0
    assert not resumed.evaluation.reused
    assert resumed.evaluation.metrics["recall_at_1"] < 0.2


def test_a_generation_that_was_begun_but_not_described_can_be_searched(settings_with):
    settings = settings_with()
    generation = plan_run(settings, "dry", dry_run=True).generation
    shared_graph(settings).value("generation_table", generation=generation)  # as a crash would leave it

    run(settings)

    assert search(settings, "Why does the sky look black from the Moon?", top_k=1)
    assert generations(settings)[0]["created_at"]


def test_shards_are_of_the_size_that_is_set_and_may_be_ingested_in_any_order(settings_with, corpus):
    settings = settings_with(**corpus(numbered(*range(25))), **{"ingest.shard_passages": 10})
    plan = plan_run(settings, "run")

    for shard in reversed(plan.shards):
        ingest_shard(settings, plan, shard)

    assert [shard.passages for shard in plan.shards] == [10, 10, 5]
    assert [shard.number for shard in plan.shards] == [0, 1, 2]
    assert sum(shard.tokens for shard in plan.shards) == plan.tokens
    assert finish(settings, plan).rows == 25


def test_a_shard_may_be_ingested_twice(settings_with, corpus):
    settings = settings_with(**corpus(numbered(*range(25))))
    plan = plan_run(settings, "run")

    for shard in plan.shards * 2:
        assert ingest_shard(settings, plan, shard).written == 25

    assert finish(settings, plan).rows == 25


def test_a_generation_that_lacks_rows_is_not_finished(settings_with, corpus):
    settings = settings_with(**corpus(numbered(*range(25))), **{"ingest.shard_passages": 10})
    plan = plan_run(settings, "run")
    ingest_shard(settings, plan, plan.shards[0])

    with pytest.raises(StoreError, match=f"{plan.generation}' holds 10 rows, the plan wants 25"):
        finish(settings, plan)


def test_a_finished_run_leaves_nothing_in_staging(settings_with, tmp_path):
    run(settings_with())

    assert list((tmp_path / "staging" / "books").iterdir()) == []


def test_what_a_run_left_in_staging_is_not_taken_for_the_next_one_s(settings_with, corpus):
    settings = settings_with(**corpus(numbered(*range(25))), **{"ingest.shard_passages": 10})
    plan_run(settings, "run")

    corpus(numbered(*range(5)))
    again = run(settings, "run")

    assert again.finished.rows == 5


def test_a_lost_staging_folder_is_named(settings_with, corpus, tmp_path):
    settings = settings_with(**corpus(numbered(*range(25))))
    plan = plan_run(settings, "run")
    shard = plan.shards[0]
    (tmp_path / "staging" / "books" / "run" / "shard-00000.parquet").unlink()

    with pytest.raises(StoreError, match=r"shard-00000\.parquet is not there: staging must be shared by all workers"):
        ingest_shard(settings, plan, shard)


def test_staging_may_be_a_file_system_of_fsspec(settings_with, tmp_path):
    settings = settings_with(**{"ingest.staging": f"memory://{tmp_path.name}"})

    assert run(settings).finished.rows > 104
    assert run(settings, "another").plan.to_embed == 0


def test_a_limit_takes_the_first_documents(settings_with, corpus):
    rows = [row for n in range(5) for row in numbered(n) * 3]  # a row for each question
    settings = settings_with(**corpus(rows), **{"source.limit": 3})

    found = run(settings)

    assert (found.plan.documents, found.finished.rows) == (3, 3)
    stored = stored_rows(settings, live(settings)).values()
    assert {row["document_id"] for row in stored} == {"doc-00000", "doc-00001", "doc-00002"}


@pytest.mark.parametrize("limit", [999, 1000, 1001, 2500, 9999])
def test_a_limit_may_lie_anywhere_in_a_batch(settings_with, corpus, limit):
    settings = settings_with(**corpus(numbered(*range(2500))), **{"source.limit": limit})

    plan = plan_run(settings, "run")

    assert plan.documents == plan.passages == min(limit, 2500)


def test_a_higher_limit_embeds_only_what_is_new(settings_with, corpus):
    changes = corpus(numbered(*range(30)))
    run(settings_with(**changes, **{"source.limit": 10}))

    second = plan_run(settings_with(**changes, **{"source.limit": 25}), "another")

    assert (second.documents, second.unchanged, second.to_embed, second.deleted) == (25, 10, 15, 0)


def test_a_dry_run_creates_nothing_at_all(settings_with, tmp_path):
    plan = plan_run(settings_with(), "dry", dry_run=True)

    assert plan.documents == 104
    assert plan.to_embed == plan.passages > 104
    assert plan.shards == []
    assert plan.tokens > 10_000
    assert list(tmp_path.iterdir()) == []


def test_a_dry_run_changes_nothing_at_all(settings_with, corpus, tmp_path):
    settings = settings_with(**corpus(numbered(*range(30))))
    run(settings)
    corpus(numbered(*range(5, 40)))
    plan_run(settings, "waiting")
    before = tree(tmp_path)

    plan = plan_run(settings, "waiting", dry_run=True)
    other = plan_run(settings_with(**{"passages.template": "plain_v1"}), "waiting", dry_run=True)

    assert (plan.to_embed, plan.unchanged, plan.deleted) == (10, 25, 5)
    assert other.to_embed == other.passages
    assert tree(tmp_path) == before


def test_rollback_returns_and_what_was_left_is_held(settings_with, corpus):
    changes = corpus(numbered(*range(30)))
    before, after = settings_with(**changes), settings_with(**changes, **{"passages.template": "plain_v1"})
    first, second = run(before), run(after)

    moved = rollback(after)
    again = run(after, "again")

    assert (moved.live, moved.previous) == (first.plan.generation, second.plan.generation)
    assert live(after) == first.plan.generation
    assert (again.promotion.live, again.promotion.promoted) == (first.plan.generation, False)
    assert again.promotion.held.startswith(f"{second.plan.generation} was rolled back at ")


def test_what_was_held_goes_live_by_hand_and_is_held_no_more(settings_with, corpus):
    changes = corpus(numbered(*range(9)))
    before, after = settings_with(**changes), settings_with(**changes, **{"passages.template": "plain_v1"})
    run(before)
    second = run(after)
    rollback(after)

    by_hand = promote_generation(after, second.plan.generation)
    run(before)
    run(after)

    assert by_hand.live == second.plan.generation
    assert live(after) == second.plan.generation


def test_without_a_predecessor_there_is_no_rollback(settings_with):
    settings = settings_with()
    with pytest.raises(StoreError, match="no earlier generation to return to"):
        rollback(settings)
    run(settings)
    with pytest.raises(StoreError, match="no earlier generation to return to"):
        rollback(settings)


def test_retention_keeps_the_live_generation_and_its_predecessor(settings_with, corpus):
    changes = corpus(numbered(*range(9)))
    made = [run(settings_with(**changes, **{"embedding.hashing.dimension": d})) for d in (8, 16, 32, 64)]

    left = {row["generation"] for row in generations(settings_with())}

    assert left == {made[2].plan.generation, made[3].plan.generation}
    assert [len(one.promotion.collected) for one in made] == [0, 0, 1, 1]


def test_retention_may_keep_more(settings_with, corpus):
    changes = corpus(numbered(*range(9))) | {"retention.generations": 3}
    made = [run(settings_with(**changes, **{"embedding.hashing.dimension": d})) for d in (8, 16, 32, 64)]

    left = {row["generation"] for row in generations(settings_with())}

    assert left == {one.plan.generation for one in made[1:]}


def test_retention_never_drops_what_a_rollback_needs(settings_with, corpus):
    changes = corpus(numbered(*range(9)))
    old, new, *others = (settings_with(**changes, **{"embedding.hashing.dimension": d}) for d in (8, 16, 32))
    first, _ = run(old), run(new)
    rollback(new)
    promoted = [run(other) for other in others]

    moved = rollback(old)

    assert promoted[-1].promotion.previous == moved.live == first.plan.generation


def test_a_generation_below_the_gate_is_not_promoted(settings_with):
    good = run(settings_with())
    poor = settings_with(**{"embedding.hashing.dimension": 8})

    with pytest.raises(GateError, match=r"recall@10 fell from .* gate\.max_drop allows 0\.0500"):
        run(poor)

    assert live(poor) == good.plan.generation


def test_an_absolute_gate_holds_for_the_first_generation_too(settings_with, tmp_path):
    settings = settings_with(**{"gate.min_recall_at_10": 0.99})

    with pytest.raises(GateError, match=r"recall@10 is 0\.\d+ on 351 questions, gate\.min_recall_at_10 wants 0\.9900"):
        run(settings)

    assert live(settings) is None


def test_a_run_that_was_overtaken_does_not_promote(settings_with, corpus):
    changes = corpus(numbered(*range(30)))
    slow, fast = settings_with(**changes), settings_with(**changes, **{"passages.template": "plain_v1"})
    plan = plan_run(slow, "slow")
    ingest_shard(slow, plan, plan.shards[0])
    finish(slow, plan)
    evaluation = evaluate(slow, plan)
    overtaking = run(fast, "fast")

    with pytest.raises(StaleLiveError, match="Another run was faster"):
        promote(slow, plan, evaluation)

    assert live(slow) == overtaking.plan.generation


def test_changed_questions_are_asked(settings_with, corpus):
    settings = settings_with(**corpus(numbered(*range(9))))
    first = run(settings)

    corpus(numbered(*range(9), question="Which thing has nothing in common with any text?"))
    second = run(settings, "another")

    assert second.plan.to_embed == 0
    assert not second.evaluation.reused
    assert first.evaluation.metrics["recall_at_1"] == 1
    assert second.evaluation.metrics["recall_at_1"] < 1


def test_a_corpus_without_questions_is_asked_its_own_sentences(settings_with, corpus):
    rows = [{name: value for name, value in row.items() if name != "question"} for row in numbered(*range(9))]

    found = run(settings_with(**corpus(rows)))

    assert (found.evaluation.asked, found.plan.questions) == ("probes", 9)
    assert found.evaluation.metrics["recall_at_10"] == 1
    assert found.promotion.promoted


def test_asking_no_questions_goes_live_unmeasured(settings_with):
    found = run(settings_with(**{"evaluation.max_questions": 0}))

    assert found.evaluation.metrics == {}
    assert found.promotion.promoted


def test_figures_measured_again_are_the_recorded_ones(settings_with):
    settings = settings_with()
    first = run(settings)

    again = measure(settings)

    assert again["metrics"] == first.evaluation.metrics
    assert again["questions"] == 351


def test_a_question_is_embedded_as_the_live_generation_was(settings_with, corpus):
    changes = corpus(numbered(*range(50)))
    narrow = settings_with(**changes, **{"embedding.hashing.dimension": 1024, "store.metric": "l2"})
    run(narrow)
    now_configured = settings_with(**changes, **{"embedding.hashing.dimension": 32, "store.metric": "dot"})

    found = search(now_configured, "the size7 and the colour7", top_k=3)

    assert found == search(narrow, "the size7 and the colour7", top_k=3)
    assert found[0]["document_id"] == "doc-00007"
    assert [row["rank"] for row in found] == [1, 2, 3]


def test_a_plan_for_a_new_generation_is_compared_with_the_live_one(settings_with, corpus):
    run(settings_with(**corpus(numbered(*range(100)))))
    before = generations(settings_with())
    shrunk = settings_with(**corpus(numbered(*range(50))), **{"passages.template": "plain_v1"})

    with pytest.raises(GuardError, match=r"lacks 50\.0% of the documents.*guard\.max_deleted_fraction allows 25\.0%"):
        plan_run(shrunk, "run")

    assert generations(shrunk) == before
    allowed = shrunk.model_copy(update={"guard": shrunk.guard.model_copy(update={"max_deleted_fraction": 0.5})})
    assert plan_run(allowed, "run").documents == 50


def test_the_catalog_describes_a_generation(settings_with):
    settings = settings_with()
    found = run(settings)

    record = Generations.of(settings)[found.plan.generation]

    assert record.rows == found.finished.rows
    assert record.documents == 104
    assert record.metrics == found.evaluation.metrics
    assert record.vector_space == found.plan.vector_space
    assert record.dimension == 256
    assert record.settings and record.settings.embedding["service"] == "hashing"
