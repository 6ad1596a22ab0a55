"""LanceDB keeps the contract, in a folder; and what is its own: the index, and many tables."""

from collections.abc import Mapping
from pathlib import Path

import lancedb.index
import numpy as np
import pytest

from squadron.settings.store_sections import LanceDBSettings
from squadron.stores.contract import StoredRecord
from squadron.stores.lancedb import index as lancedb_index
from squadron.stores.lancedb import search as lancedb_search
from squadron.stores.lancedb import store as lancedb_store
from squadron.stores.lancedb.search import MANY_QUERIES
from tests.stores.contract import StoreContract
from tests.stores.subject import (
    BLUE,
    GREEN,
    METRICS,
    Store,
    Unusable,
    at_once,
    exact_scores,
    ids,
    passage_id,
    records,
    vectors,
    vectors_of,
)


class TestLanceDB(StoreContract):
    rows_over_limits = lancedb_store.IDS_PER_CALL + 500
    bytes_over_limits = 5_000_000

    @pytest.fixture
    def store(self, tmp_path: Path) -> Store:
        return Store(lancedb_store, LanceDBSettings(uri=str(tmp_path / "lancedb")))

    def unusable(self, store: Store, tmp_path: Path) -> Mapping[str, Unusable]:
        (tmp_path / "file").write_text("not a folder")
        place = str(tmp_path / "file" / "lancedb")
        return {"a place under a file": Unusable(LanceDBSettings(uri=place), names=f"store.lancedb.uri {place!r}")}


def test_reading_creates_nothing(tmp_path: Path) -> None:
    """A dry run reads the catalog of a place that is not there yet."""
    store = Store(lancedb_store, LanceDBSettings(uri=str(tmp_path / "not" / "there")))
    assert (store.generations(), store.live(), store.drop("squad_0000b10e")) == ({}, None, "squad_0000b10e")
    assert list(tmp_path.iterdir()) == []


def test_a_place_may_be_given_as_a_file_uri(tmp_path: Path) -> None:
    Store(lancedb_store, LanceDBSettings(uri=f"file://{tmp_path}/lancedb")).generation().write(records(range(3)))
    assert Store(lancedb_store, LanceDBSettings(uri=f"{tmp_path}/lancedb")).generation().count() == 3
    assert (tmp_path / "lancedb" / "_creating.lock").exists()


@pytest.fixture
def earlier(tmp_path: Path) -> Store:
    """A store whose records an earlier version of Squadron wrote, without revisions."""
    store = Store(lancedb_store, LanceDBSettings(uri=str(tmp_path / "lancedb")))
    for generation in (BLUE, GREEN):
        store.generation(generation)
    records = store.first_client.connection.open_table("_generations")
    records.drop_columns(["revision"])
    return store


def test_a_record_of_an_earlier_version_has_the_first_revision(earlier: Store) -> None:
    stored = earlier.records()
    assert [record.revision for record in stored.values()] == [1, 1]
    assert earlier.record(BLUE, '{"rows": 4}', expected_revision=1) == StoredRecord('{"rows": 4}', 2)
    assert earlier.records() == {BLUE: StoredRecord('{"rows": 4}', 2), GREEN: stored[GREEN]}


def test_a_generation_is_added_to_those_of_an_earlier_version(earlier: Store) -> None:
    earlier.generation("squad_0000feed")
    assert [record.revision for record in earlier.records().values()] == [1, 1, 1]


def test_first_writers_over_an_earlier_version_at_once_are_kept(earlier: Store) -> None:
    clients = {generation: earlier.client() for generation in (BLUE, GREEN)}
    outcomes = at_once(
        *(lambda name=name: earlier.record(name, "{}", 1, client=clients[name]) for name in (BLUE, GREEN))
    )
    assert outcomes == [StoredRecord("{}", 2)] * 2
    assert earlier.records() == dict.fromkeys((BLUE, GREEN), StoredRecord("{}", 2))


@pytest.fixture
def indexing(tmp_path: Path) -> Store:
    """A store that builds an index from 500 rows."""
    return Store(lancedb_store, LanceDBSettings(uri=str(tmp_path / "lancedb"), index_min_rows=500))


@pytest.mark.parametrize("metric", METRICS)
def test_an_index_finds_what_exact_search_finds(indexing: Store, metric: str) -> None:
    blue, rows, queries = indexing.generation(metric=metric), records(range(2000)), vectors(20, seed=3)
    blue.write(rows)
    assert blue.build_index() == "IVF_SQ over 2000 rows, recall@10 1.000 of exact search"
    found = blue.search(queries, top_k=10)
    scores = exact_scores(queries, vectors_of(rows), metric)
    best = np.argsort(-scores, axis=1)[:, :10]
    assert found["id"].to_pylist() == [passage_id(row) for row in best.ravel()]
    expected = np.take_along_axis(scores, best, axis=1).ravel()
    np.testing.assert_allclose(found["score"].to_numpy(), expected, rtol=1e-3, atol=1e-3)


def test_an_index_that_finds_too_little_is_dropped(indexing: Store, caplog: pytest.LogCaptureFixture) -> None:
    """Somebody built one that keeps a byte of each vector."""
    blue, rows = indexing.generation(dimension=64), records(range(4000), dimension=64)
    blue.write(rows)
    coarse = lancedb.index.IvfPq(distance_type="cosine", num_partitions=1, num_sub_vectors=1)
    blue.table.create_index("vector", config=coarse)

    assert blue.build_index() == "none: exact search over 4000 rows"

    assert "of what exact search finds, store.lancedb.index_min_recall wants 0.95: it was dropped" in caplog.text
    queries = vectors(20, 64, seed=3)
    best = np.argsort(-exact_scores(queries, vectors_of(rows), "cosine"), axis=1)[:, :10]
    assert blue.search(queries, top_k=10)["id"].to_pylist() == [passage_id(row) for row in best.ravel()]


def test_below_its_minimum_there_is_no_index(indexing: Store) -> None:
    blue = indexing.generation()
    blue.write(records(range(499)))
    assert blue.build_index() == "none: exact search over 499 rows"
    blue.write(records(range(499, 500)))
    assert blue.build_index().startswith("IVF_SQ over 500 rows, recall@10 ")


def test_rows_written_after_the_index_are_found_before_and_after_it_takes_them_in(indexing: Store) -> None:
    blue, rows = indexing.generation(metric="l2"), records(range(1200))
    blue.write(rows.slice(0, 1000))
    blue.build_index()
    blue.write(rows.slice(1000))
    blue.delete([passage_id(row) for row in range(100)])
    queries, expected = vectors_of(rows)[1000:], [passage_id(row) for row in range(1000, 1200)]
    assert blue.search(queries, top_k=1)["id"].to_pylist() == expected
    assert blue.build_index().startswith("IVF_SQ over 1100 rows, recall@10 ")
    assert blue.search(queries, top_k=1)["id"].to_pylist() == expected
    assert passage_id(5) not in blue.search(vectors_of(rows)[:10], top_k=1)["id"].to_pylist()


def test_a_filter_finds_rows_in_partitions_that_a_search_does_not_probe(indexing: Store) -> None:
    """Rows of one language lie opposite to the query, in other partitions of the index than it."""
    blue = indexing.generation(metadata_columns=["lang"])
    rows = range((lancedb_search.PROBES + 4) * lancedb_index.ROWS_PER_PARTITION)
    values = vectors(rows.stop)
    query = -values[:1]
    opposite = set(np.argsort(values @ query[0])[:5].tolist())
    blue.write(records(rows, lang=["rare" if row in opposite else "en" for row in rows]))
    assert blue.build_index().startswith(f"IVF_SQ over {rows.stop} rows, recall@10 ")
    assert set(blue.search(query, top_k=5, filter={"lang": "rare"})["id"].to_pylist()) == set(map(passage_id, opposite))


def test_generations_are_listed_among_more_than_a_thousand_tables(indexing: Store) -> None:
    indexing.generation()
    for number in range(1100):
        Path(indexing.settings.uri, f"another_{number}.lance").mkdir()
    assert len(lancedb_store.tables.table_names(indexing.client())) == 1102
    assert indexing.generations() == {"squad_0000b10e": {}}


@pytest.mark.parametrize("metric", METRICS)
def test_many_questions_at_once_find_what_each_finds_alone(indexing: Store, metric: str) -> None:
    blue, questions = indexing.generation(metric=metric), vectors(MANY_QUERIES, seed=9)
    blue.write(records(range(500)))
    blue.delete(ids(range(0, 500, 7)))
    together = blue.search(questions, top_k=5)
    alone = [blue.search(questions[number : number + 1], top_k=5) for number in range(MANY_QUERIES)]
    assert together["id"].to_pylist() == [row for found in alone for row in found["id"].to_pylist()]
    assert together["text"].to_pylist() == [text for found in alone for text in found["text"].to_pylist()]
    scores = np.concatenate([found["score"].to_numpy() for found in alone])
    np.testing.assert_allclose(together["score"].to_numpy(), scores, atol=1e-4)
