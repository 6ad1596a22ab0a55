"""The contract of the vector stores, as a suite: a store's test file subclasses it and supplies `store`.

    class TestNewStore(StoreContract):
        never = {"compare_and_set": "its service cannot write conditionally"}

        @pytest.fixture
        def store(self, tmp_path): return Store(new_store, NewStoreSettings(...))

What a store cannot do is declared in `never`, with the reason. Such a test then asserts what the store does
instead, and ends as an expected failure that prints the reason.
"""

import json
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pyarrow as pa
import pytest

from squadron.errors import SettingsError, StaleLiveError, StaleRecordError, StoreError
from squadron.stores.contract import StoredRecord
from squadron.stores.record_checks import MATCH_SCHEMA, match_schema
from tests.stores.subject import (
    BLUE,
    COLLECTION,
    DIMENSION,
    GREEN,
    METRICS,
    Store,
    Unusable,
    at_once,
    at_once_in_processes,
    exact_scores,
    ids,
    passage_id,
    records,
    vectors,
    vectors_of,
    with_vectors,
)

ABILITIES = {
    "compare_and_set": "of promoters at once, exactly one wins",
    "long_texts": "a text or metadata of 100 KB is stored; without it, refused, and nothing of its batch is written",
    "versions": "what a generation held before can be restored",
    "nul_characters": "U+0000 is stored in a text; without it, U+FFFD stands in its place",
}
HOSTILE = [
    "O'Reilly",
    "'; DROP TABLE squad; --",
    "' OR '1'='1",
    '"quoted"',
    '{"$ne": null}',
    "back\\slash",
    "100%",
    "a_b*c?",
    "line\nbreak",
    "tab\tstop",
    "$1 {0} %s",
    "naïve Größe 東京 🙂",
    "null",
    "true",
    "12",
]


class StoreContract:
    """What every store does. Sizes below are small; a subclass sets those that pass its service's limits."""

    never: ClassVar[Mapping[str, str]] = {}
    """Abilities, of those above, that the store lacks, each with the reason."""
    rows_over_limits: ClassVar[int] = 300
    """More rows than one write, one page of ids or one delete takes."""
    bytes_over_limits: ClassVar[int] = 1_000_000
    """More bytes of text than one write takes."""

    @pytest.fixture
    def store(self, tmp_path: Path) -> Store:
        """An empty store. Override it."""
        raise NotImplementedError

    def unusable(self, store: Store, tmp_path: Path) -> Mapping[str, Unusable]:
        """Ways to fail to connect, by name: an unreachable address, a missing key, a wrong key. Override it."""
        raise NotImplementedError

    @pytest.fixture(autouse=True)
    def _clients_are_closed(self, store: Store) -> Iterator[None]:
        yield
        store.close()

    def test_what_it_never_does_is_an_ability_of_the_contract(self) -> None:
        assert set(self.never) <= set(ABILITIES)

    # Connecting

    def test_a_place_that_cannot_be_used_is_refused_by_its_setting(
        self, store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
    ) -> None:
        ways = self.unusable(store, tmp_path)
        assert ways
        for way, unusable in ways.items():
            with monkeypatch.context() as patch, pytest.raises((StoreError, SettingsError)) as refused:
                for name, value in unusable.environment.items():
                    if value is None:
                        patch.delenv(name, raising=False)
                    else:
                        patch.setenv(name, value)
                Store(store.module, unusable.settings).client()
            assert unusable.names in str(refused.value), way
            secrets = {store.secret, *unusable.environment.values()} - {None, ""}
            shown = "".join(map(repr, _chain(refused.value))) + caplog.text
            assert not [secret for secret in secrets if secret in shown], way

    def test_first_clients_at_once_all_connect(self, store: Store) -> None:
        outcomes = at_once(*[store.client] * 4)
        assert [outcome for outcome in outcomes if isinstance(outcome, BaseException)] == []
        assert store.generations() == {}

    def test_nothing_shows_the_secret(self, store: Store) -> None:
        client = store.client()
        generation = store.generation(client=client)
        shown = f"{client!r} {client} {generation.table!r} {generation.table} {store.settings!r}"
        assert not store.secret or store.secret not in shown

    # Opening a generation

    def test_a_new_store_has_no_generation_and_nothing_live(self, store: Store) -> None:
        assert store.generations() == {}
        assert store.live() is None

    def test_a_new_generation_is_empty(self, store: Store) -> None:
        blue = store.generation()
        assert (blue.count(), blue.ids(), blue.found()) == (0, [], [])
        assert store.generations() == {BLUE: {}}
        assert store.created_at(BLUE) <= datetime.now(UTC).isoformat()  # so that what died then can be collected

    def test_opening_again_keeps_rows_and_description(self, store: Store) -> None:
        store.generation().write(records(range(3)))
        store.describe(BLUE, {"rows": 3})
        assert store.generation(client=store.client()).count() == 3
        assert store.generations() == {BLUE: {"rows": 3}}

    def test_another_dimension_is_refused(self, store: Store) -> None:
        store.generation(dimension=8)
        with pytest.raises(StoreError, match=r"\b8\b.*\b24\b"):
            store.generation(dimension=24)

    def test_another_metric_is_refused(self, store: Store) -> None:
        store.generation(metric="cosine")
        with pytest.raises(StoreError, match=r"cosine.*dot"):
            store.generation(metric="dot")

    def test_generations_created_at_once_are_one(self, store: Store) -> None:
        clients = [store.client() for _ in range(4)]
        outcomes = at_once(*(lambda client=client: store.generation(client=client).count() for client in clients))
        assert outcomes == [0, 0, 0, 0]
        assert store.generations() == {BLUE: {}}

    # Writing

    def test_written_rows_are_counted_at_once(self, store: Store) -> None:
        blue = store.generation()
        assert blue.write(records(range(20))) == 20
        assert blue.count() == 20
        assert sorted(blue.ids()) == ids(range(20))

    def test_writing_twice_stores_once(self, store: Store) -> None:
        blue = store.generation()
        assert [blue.write(records(range(20))), blue.write(records(range(10, 30)))] == [20, 20]
        assert blue.count() == 30
        assert sorted(blue.ids()) == ids(range(30))

    def test_a_row_written_again_is_replaced(self, store: Store) -> None:
        blue = store.generation(metadata_columns=["lang"])
        blue.write(records(range(2), text=["before", "before"], lang=["en", "en"]))
        blue.write(with_vectors(records(range(1), text=["after"], lang=["de"]), vectors(1, seed=9)))
        (best,) = blue.search(vectors(1, seed=9), top_k=1).to_pylist()
        assert (best["id"], best["text"]) == (passage_id(0), "after")
        assert best["score"] == pytest.approx(1, abs=1e-3)
        assert blue.found({"lang": "de"}) == [passage_id(0)]
        assert blue.count() == 2

    def test_ids_twice_in_one_batch_are_stored_once(self, store: Store) -> None:
        blue = store.generation()
        twice = pa.concat_tables([records(range(5)), records(range(3, 8))])
        assert blue.write(twice) == 8
        assert blue.count() == 8

    def test_an_empty_batch_writes_nothing(self, store: Store) -> None:
        blue = store.generation()
        assert blue.write(records(range(0))) == 0
        assert blue.count() == 0

    def test_writers_of_the_same_ids_at_once_store_them_once(self, store: Store) -> None:
        opened = [store.generation(client=store.client()) for _ in range(3)]
        rows = records(range(100))
        orders = [rows, rows.take([*range(99, -1, -1)]), rows]
        writes = [lambda one=one, rows=rows: one.write(rows) for one, rows in zip(opened, orders, strict=True)]
        assert at_once(*writes) == [100, 100, 100]
        assert store.generation().count() == 100
        assert sorted(store.generation().ids()) == ids(range(100))

    @pytest.mark.slow
    def test_processes_that_create_and_write_the_same_at_once_store_it_once(self, store: Store) -> None:
        outcomes = at_once_in_processes(store, _create_and_write, [records(range(60)), records(range(20, 80))])
        assert outcomes == [60, 60]
        assert sorted(store.generation().ids()) == ids(range(80))
        assert store.generations() == {BLUE: {}}

    def test_a_batch_of_more_rows_than_one_call_takes_is_written_whole(self, store: Store) -> None:
        blue = store.generation()
        assert blue.write(records(range(self.rows_over_limits))) == self.rows_over_limits
        assert blue.count() == self.rows_over_limits

    def test_a_batch_of_more_bytes_than_one_call_takes_is_written_whole(self, store: Store) -> None:
        blue = store.generation()
        rows = range(self.bytes_over_limits // 20_000 + 1)
        assert blue.write(records(rows, text=["é" * 10_000] * len(rows))) == len(rows)
        assert blue.count() == len(rows)

    def test_vectors_of_another_dimension_are_refused_before_anything_is_written(self, store: Store) -> None:
        blue = store.generation()
        with pytest.raises(StoreError, match=rf"\b{DIMENSION}\b.*\b16\b"):
            blue.write(records(range(3), dimension=16))
        assert blue.count() == 0

    @pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
    def test_a_vector_that_is_not_finite_is_refused_before_anything_is_written(
        self, store: Store, value: float
    ) -> None:
        blue, broken = store.generation(), vectors(3)
        broken[1, 2] = value
        with pytest.raises(StoreError, match=passage_id(1)):
            blue.write(with_vectors(records(range(3)), broken))
        assert blue.count() == 0

    @pytest.mark.parametrize("text", ["naïve Größe 東京 🙂 \u202e\ufeff", "é" * 15_000, "", "\r\n\t '\"\\"])
    def test_texts_come_back_as_they_were(self, store: Store, text: str) -> None:
        blue = store.generation(metadata_columns=["note"])
        blue.write(records(range(1), document_id=[text[:50]], title=[text[:50]], text=[text], note=[text[:500]]))
        (found,) = blue.search(vectors(1)).to_pylist()
        assert (found["document_id"], found["title"], found["text"]) == (text[:50], text[:50], text)

    @pytest.mark.parametrize("column", ["text", "note"])
    def test_a_value_of_100_kb_is_stored(self, store: Store, column: str) -> None:
        blue, long = store.generation(metadata_columns=["note"]), "0123456789" * 10_000
        rows = records(range(2), **{"note": ["short", "short"], column: ["short", long]})
        if reason := self.never.get("long_texts"):
            with pytest.raises(StoreError, match=passage_id(1)):
                blue.write(rows)
            assert blue.count() == 0
            pytest.xfail(reason)
        assert blue.write(rows) == 2
        found = blue.search(vectors(2, seed=1)[1:], top_k=1).to_pylist()[0]
        assert (found["id"], found["text"]) == (passage_id(1), rows["text"][1].as_py())

    def test_a_nul_character_comes_back(self, store: Store) -> None:
        blue = store.generation(metadata_columns=["note"])
        assert blue.write(records(range(1), text=["a\0b"], note=["c\0d"])) == 1
        (found,) = blue.search(vectors(1)).to_pylist()
        if reason := self.never.get("nul_characters"):
            assert found["text"] == "a\ufffdb"
            pytest.xfail(reason)
        assert found["text"] == "a\0b"

    def test_columns_may_come_in_any_order(self, store: Store) -> None:
        blue = store.generation(metadata_columns=["author", "lang"])
        rows = records(range(3), lang=["en", "de", "fr"], author=["Ada", "Bob", "Eve"])
        assert blue.write(rows.select(sorted(rows.column_names, reverse=True))) == 3
        assert blue.found({"lang": "de", "author": "Bob"}) == [passage_id(1)]

    def test_metadata_may_be_missing(self, store: Store) -> None:
        blue = store.generation(metadata_columns=["lang", "author"])
        assert blue.write(records(range(3), lang=["en", None, "de"])) == 3
        assert blue.found({"lang": "en"}) == [passage_id(0)]
        assert blue.found() == ids(range(3))

    def test_a_metadata_column_may_be_added_later(self, store: Store) -> None:
        store.generation(metadata_columns=["lang"]).write(records(range(2), lang=["en", "de"]))
        later = store.generation(metadata_columns=["lang", "author"])
        later.write(records(range(2, 4), lang=["en", "en"], author=["Ada", "Bob"]))
        assert later.found({"author": "Ada"}) == [passage_id(2)]
        assert later.found({"lang": "en"}) == sorted([passage_id(0), passage_id(2), passage_id(3)])
        assert later.count() == 4

    def test_a_metadata_column_may_be_left_out_later(self, store: Store) -> None:
        store.generation(metadata_columns=["lang"]).write(records(range(1), lang=["en"]))
        later = store.generation(metadata_columns=[])
        assert later.write(records(range(1, 2))) == 1
        assert later.found({"lang": "en"}) == [passage_id(0)]
        assert later.found() == ids(range(2))

    # Deleting and listing

    def test_deleted_rows_are_gone_at_once(self, store: Store) -> None:
        blue = store.generation()
        blue.write(records(range(20)))
        assert blue.delete(ids(range(5))) == 5
        assert blue.count() == 15
        assert sorted(blue.ids()) == ids(range(5, 20))
        assert blue.found() == ids(range(5, 20))

    def test_absent_ids_count_for_nothing(self, store: Store) -> None:
        blue = store.generation()
        blue.write(records(range(3)))
        assert blue.delete(ids(range(2, 10))) == 1
        assert blue.delete(ids(range(2, 10))) == 0
        assert blue.delete([]) == 0
        assert blue.count() == 2

    def test_more_rows_than_one_call_takes_are_listed_and_deleted(self, store: Store) -> None:
        blue, everything = store.generation(), range(self.rows_over_limits)
        blue.write(records(everything))
        assert sorted(blue.ids()) == ids(everything)
        assert blue.delete(ids(everything[:-1])) == self.rows_over_limits - 1
        assert blue.ids() == [passage_id(everything[-1])]
        assert blue.count() == 1

    # Reading rows and returning to what they were

    def test_rows_are_read_as_they_were_written(self, store: Store) -> None:
        blue, rows = store.generation(metadata_columns=["lang", "author"]), range(12)
        written = records(rows, lang=["en", None] * 6, author=["Ada"] * 12, title=["naïve 東京"] * 12)
        blue.write(written)
        found = blue.rows([*ids(rows), "f" * 32])
        assert found.num_rows == 12
        columns = ["document_id", "title", "ordinal", "text", "lang", "author"]
        assert _by_id(found.select(["id", *columns])) == _by_id(written.select(["id", *columns]))
        order = found.sort_by("id").to_pydict()["vector"]
        np.testing.assert_allclose(order, written.sort_by("id").to_pydict()["vector"], rtol=1e-6)

    def test_more_rows_than_one_call_takes_are_read(self, store: Store) -> None:
        blue, everything = store.generation(), range(self.rows_over_limits)
        blue.write(records(everything))
        assert sorted(blue.rows(ids(everything))["id"].to_pylist()) == ids(everything)
        assert blue.rows([]).num_rows == 0

    def test_what_a_generation_held_before_can_be_restored(self, store: Store) -> None:
        blue = store.generation()
        blue.write(records(range(10)))
        version = blue.version()
        blue.write(records(range(8, 15)))
        blue.delete(ids(range(3)))
        if reason := self.never.get("versions"):
            assert version is None
            for way in (blue.restore, blue.earlier):
                with pytest.raises(StoreError, match="keeps no earlier versions"):
                    way(1)
            assert sorted(blue.ids()) == ids(range(3, 15))
            pytest.xfail(reason)
        assert version is not None
        assert blue.earlier(version).found() == ids(range(10))
        assert blue.found() == ids(range(3, 15))  # to look at what was changes nothing
        assert blue.restore(version) == 10
        assert sorted(blue.ids()) == ids(range(10))
        assert store.generation(client=store.client()).found() == ids(range(10))
        blue.write(records(range(10, 12)))
        assert blue.count() == 12

    # Searching

    @pytest.mark.parametrize("metric", METRICS)
    def test_order_and_scores_are_those_of_exact_search(self, store: Store, metric: str) -> None:
        blue, rows, queries = store.generation(metric=metric), records(range(200)), vectors(5, seed=3)
        blue.write(rows)
        found = blue.search(queries, top_k=10)
        scores = exact_scores(queries, vectors_of(rows), metric)
        best = np.argsort(-scores, axis=1)[:, :10]
        assert found.schema == MATCH_SCHEMA
        assert found["query"].to_pylist() == np.repeat(np.arange(5), 10).tolist()
        assert found["rank"].to_pylist() == [*range(1, 11)] * 5
        assert found["id"].to_pylist() == [passage_id(row) for row in best.ravel()]
        assert found["document_id"].to_pylist() == [f"document {row}" for row in best.ravel()]
        expected = np.take_along_axis(scores, best, axis=1).ravel()
        np.testing.assert_allclose(found["score"].to_numpy(), expected, rtol=1e-3, atol=1e-3)
        assert (np.diff(found["score"].to_numpy().reshape(5, 10), axis=1) <= 0).all()

    @pytest.mark.parametrize("metric", METRICS)
    def test_after_the_index_is_built_each_row_finds_itself(self, store: Store, metric: str) -> None:
        blue, rows = store.generation(metric=metric), records(range(200))
        values = vectors_of(rows) / np.linalg.norm(vectors_of(rows), axis=1, keepdims=True)
        blue.write(with_vectors(rows, values))
        assert blue.build_index()
        found = blue.search(values[:20], top_k=1)
        assert found["id"].to_pylist() == [passage_id(row) for row in range(20)]
        np.testing.assert_allclose(found["score"].to_numpy(), 0 if metric == "l2" else 1, atol=1e-3)
        assert blue.count() == 200

    def test_rows_written_and_deleted_after_the_index_was_built_count(self, store: Store) -> None:
        blue = store.generation()
        blue.write(records(range(150)))
        blue.build_index()
        blue.write(records(range(150, 200)))
        blue.delete(ids(range(10)))
        assert blue.build_index()
        assert blue.found() == ids(range(10, 200))

    def test_an_empty_generation_can_be_indexed_and_searched(self, store: Store) -> None:
        blue = store.generation()
        assert blue.build_index()
        assert blue.search(vectors(2)).equals(MATCH_SCHEMA.empty_table())

    def test_more_matches_than_rows_are_all_rows(self, store: Store) -> None:
        blue = store.generation()
        blue.write(records(range(5)))
        found = blue.search(vectors(2, seed=3), top_k=50)
        assert found["rank"].to_pylist() == [1, 2, 3, 4, 5] * 2

    def test_many_queries_are_answered_in_their_order(self, store: Store) -> None:
        blue, rows = store.generation(metric="l2"), records(range(130))
        blue.write(rows)
        found = blue.search(vectors_of(rows), top_k=1)
        assert found["query"].to_pylist() == [*range(130)]
        assert found["id"].to_pylist() == [passage_id(row) for row in range(130)]

    def test_no_query_has_no_match(self, store: Store) -> None:
        blue = store.generation()
        blue.write(records(range(5)))
        assert blue.search(vectors(0)).equals(MATCH_SCHEMA.empty_table())

    @pytest.mark.parametrize("queries", [1, 2, 100])
    def test_matches_show_the_metadata_of_their_rows(self, store: Store, queries: int) -> None:
        blue = store.generation(metadata_columns=["lang", "Author"])
        written = records(range(100), lang=["de", None] * 50, Author=[f"Größe 東京 {row}" for row in range(100)])
        blue.write(written)
        found = blue.search(vectors_of(written)[:queries], top_k=1)
        assert found.schema == match_schema(["lang", "Author"])
        assert found["query"].to_pylist() == [*range(queries)]
        shown = ["id", "text", "lang", "Author"]
        assert found.select(shown).to_pylist() == written.select(shown)[:queries].to_pylist()

    def test_matches_show_metadata_that_this_run_does_not_name(self, store: Store) -> None:
        store.generation(metadata_columns=["lang"]).write(records(range(2), lang=["en", "de"]))
        opened = store.generation(client=store.client(), metadata_columns=[])
        assert opened.search(vectors(2), top_k=1)["lang"].to_pylist() == ["en", "de"]
        assert opened.search(vectors(0)).equals(match_schema(["lang"]).empty_table())

    # Filtering

    def test_a_filter_is_applied_before_the_nearest_are_chosen(self, store: Store) -> None:
        blue, rows = store.generation(metadata_columns=["lang"]), range(100)
        blue.write(records(rows, lang=["de" if row < 3 else "en" for row in rows]))
        furthest = -vectors(3)[:1]
        assert sorted(blue.search(furthest, top_k=3, filter={"lang": "de"})["id"].to_pylist()) == ids(range(3))

    def test_a_filter_on_several_columns_takes_rows_that_meet_all(self, store: Store) -> None:
        blue = store.generation(metadata_columns=["lang", "author"])
        blue.write(records(range(3), lang=["en", "en", "de"], author=["Ada", "Bob", "Ada"]))
        assert blue.found({"lang": "en", "author": "Ada"}) == [passage_id(0)]
        assert blue.found({"lang": "fr"}) == []
        assert blue.found({}) == ids(range(3))

    def test_a_filter_by_title_or_document_takes_equal_values_only(self, store: Store) -> None:
        blue = store.generation()
        titles = ["New York", "new york", "York", "New York City", "The New York"]
        blue.write(records(range(5), title=titles))
        assert [blue.found({"title": title}) for title in titles] == [[passage_id(row)] for row in range(5)]
        assert blue.found({"document_id": "document 3"}) == [passage_id(3)]

    def test_a_filter_by_hostile_values_takes_equal_values_only(self, store: Store) -> None:
        blue, rows = store.generation(metadata_columns=["note"]), range(len(HOSTILE))
        blue.write(records(rows, note=HOSTILE))
        assert [blue.found({"note": value}) for value in HOSTILE] == [[passage_id(row)] for row in rows]
        assert blue.count() == len(rows)

    def test_metadata_columns_may_bear_any_name_that_settings_allow(self, store: Store) -> None:
        names = ["Author", "order", "select", "null", "group_2", "dateOfBirth", "generation", "collection"]
        names += ["distance"]
        blue = store.generation(metadata_columns=names)
        blue.write(records(range(2), **{name: [f"{name} 0", f"{name} 1"] for name in names}))
        assert [blue.found({name: f"{name} 1"}) for name in names] == [[passage_id(1)]] * len(names)
        found = blue.search(vectors(2), top_k=1)
        assert found["query"].to_pylist() == [0, 1]
        assert found.select(names).to_pylist() == [{name: f"{name} {row}" for name in names} for row in range(2)]

    @pytest.mark.parametrize(
        "name",
        ["author", "title' OR 1=1 --", 'title"; DROP TABLE squad', "$or", "title OR title", "", "ordinal", "vector"],
    )
    def test_a_filter_by_another_column_is_refused_naming_the_choices(self, store: Store, name: str) -> None:
        blue = store.generation(metadata_columns=["lang"])
        blue.write(records(range(2), lang=["en", "de"]))
        with pytest.raises(StoreError, match=r"(?s)document_id.*title.*lang"):
            blue.search(vectors(1), filter={name: "en"})

    # Generations and what is live

    def test_a_generation_begins_with_a_record(self, store: Store) -> None:
        store.generation(BLUE)
        (record,) = store.records().values()
        assert (json.loads(record.text).keys(), record.revision) == ({"created_at"}, 1)
        store.generation(BLUE, client=store.client())  # to open it again writes none
        assert store.records() == {BLUE: record}

    def test_a_record_is_replaced_and_its_revision_grows_by_one(self, store: Store) -> None:
        store.generation(BLUE)
        store.generation(GREEN)
        first = json.dumps({"metrics": {"recall_at_10": 0.5}, "note": "naïve 'quoted' \"東京\" \0", "index": None})
        assert store.record(BLUE, first, expected_revision=1) == StoredRecord(first, 2)
        assert store.records()[BLUE] == StoredRecord(first, 2)
        assert store.record(BLUE, "{}", expected_revision=2) == StoredRecord("{}", 3)
        assert store.records()[BLUE] == StoredRecord("{}", 3)
        assert store.records()[GREEN].revision == 1

    def test_a_long_record_comes_back_as_it_was(self, store: Store) -> None:
        store.generation(BLUE)
        text = json.dumps({"vector_space": {f"key {number}": "é" * 50 for number in range(100)}})
        store.record(BLUE, text, expected_revision=1)
        assert store.records()[BLUE].text == text

    @pytest.mark.parametrize("expected_revision", [0, 1, 3])
    def test_a_record_of_another_revision_than_expected_is_not_replaced(
        self, store: Store, expected_revision: int
    ) -> None:
        store.generation(BLUE)
        stored = store.record(BLUE, '{"rows": 1}', expected_revision=1)
        expected = f"revision {expected_revision}" if expected_revision else "no record"
        with pytest.raises(StaleRecordError, match=f"{BLUE}.*holds revision 2, this run expected {expected}"):
            store.record(BLUE, '{"rows": 2}', expected_revision)
        assert store.records()[BLUE] == stored

    def test_the_same_record_written_again_is_refused_once_it_was_written(self, store: Store) -> None:
        store.generation(BLUE)
        store.record(BLUE, '{"rows": 1}', expected_revision=1)
        with pytest.raises(StaleRecordError):
            store.record(BLUE, '{"rows": 2}', expected_revision=1)
        assert store.generations()[BLUE] == {"rows": 1}

    @pytest.mark.parametrize(("expected_revision", "error"), [(0, StoreError), (1, StaleRecordError)])
    def test_a_record_alone_makes_no_generation(
        self, store: Store, expected_revision: int, error: type[StoreError]
    ) -> None:
        store.generation(BLUE)
        with pytest.raises(error, match=GREEN) as refused:
            store.record(GREEN, "{}", expected_revision)
        assert type(refused.value) is error
        assert set(store.records()) == {BLUE}

    def test_of_writers_of_one_record_at_once_one_wins(self, store: Store) -> None:
        store.generation(BLUE)
        texts = [json.dumps({"run": number}) for number in range(4)]
        clients = [store.client() for _ in texts]
        outcomes = at_once(
            *(
                lambda text=text, client=client: store.record(BLUE, text, 1, client)
                for text, client in zip(texts, clients, strict=True)
            )
        )
        won = [outcome for outcome in outcomes if not isinstance(outcome, Exception)]
        assert {type(outcome) for outcome in outcomes if outcome not in won} <= {StaleRecordError}
        assert store.records()[BLUE] in won
        if reason := self.never.get("compare_and_set"):
            pytest.xfail(reason)
        assert [record.revision for record in won] == [2]

    def test_promoting_moves_the_pointer_and_keeps_the_previous(self, store: Store) -> None:
        store.generation(BLUE)
        store.generation(GREEN)
        first = store.promote(BLUE, expected_live=None)
        assert store.live() == first
        assert (first.generation, first.previous, first.revision) == (BLUE, None, 1)
        second = store.promote(GREEN, expected_live=BLUE)
        assert store.live() == second
        assert (second.generation, second.previous, second.revision) == (GREEN, BLUE, 2)
        assert datetime.fromisoformat(second.promoted_at).tzinfo
        assert second.collection == COLLECTION

    def test_going_back_is_promoting_the_previous(self, store: Store) -> None:
        self._promote_green_after_blue(store)
        assert store.promote(BLUE, expected_live=GREEN).previous == GREEN
        assert store.live().generation == BLUE

    def test_promoting_what_is_live_changes_nothing(self, store: Store) -> None:
        """A task that crashed after it moved the pointer is run again with what it expected before."""
        self._promote_green_after_blue(store)
        before = store.live()
        assert store.promote(GREEN, expected_live=BLUE) == before
        assert store.promote(GREEN, expected_live=GREEN) == before
        assert store.live() == before

    @pytest.mark.parametrize("generation", ["squad_0000dead", "other_0000b10e"])
    def test_promoting_what_the_collection_does_not_have_is_refused(self, store: Store, generation: str) -> None:
        store.generation(BLUE)
        store.generation("other_0000b10e", collection_name="other")
        with pytest.raises(StoreError, match=generation):
            store.promote(generation, expected_live=None)
        assert store.live() is None

    @pytest.mark.parametrize("expected", [None, BLUE, "squad_0000dead"])
    def test_promoting_over_another_live_generation_than_expected_is_refused(
        self, store: Store, expected: str | None
    ) -> None:
        self._promote_green_after_blue(store)
        store.generation("squad_00000bad")
        before = store.live()
        with pytest.raises(StaleLiveError, match=GREEN):
            store.promote("squad_00000bad", expected_live=expected)
        assert store.live() == before

    def test_promoting_where_less_is_live_than_expected_is_refused(self, store: Store) -> None:
        store.generation(BLUE)
        store.generation(GREEN)
        with pytest.raises(StaleLiveError, match=BLUE):
            store.promote(GREEN, expected_live=BLUE)
        assert store.live() is None

    @pytest.mark.parametrize("expected", [None, "squad_0000000a"])
    def test_of_promoters_at_once_one_wins(self, store: Store, expected: str | None) -> None:
        rivals = [f"squad_0000000{digit}" for digit in "bcd"]
        for generation in ["squad_0000000a", *rivals]:
            store.generation(generation)
        if expected:
            store.promote(expected, expected_live=None)
        clients = {rival: store.client() for rival in rivals}
        outcomes = at_once(
            *(lambda rival=rival: store.promote(rival, expected, client=clients[rival]) for rival in rivals)
        )
        won = [outcome for outcome in outcomes if not isinstance(outcome, Exception)]
        assert {type(outcome) for outcome in outcomes if outcome not in won} <= {StaleLiveError}
        assert store.live() in won
        if reason := self.never.get("compare_and_set"):
            pytest.xfail(reason)
        assert len(won) == 1
        assert won[0].previous == expected

    def test_the_live_generation_is_not_dropped(self, store: Store) -> None:
        store.generation(BLUE).write(records(range(3)))
        store.promote(BLUE, expected_live=None)
        with pytest.raises(StoreError, match=BLUE):
            store.drop(BLUE)
        assert store.generation(BLUE).count() == 3

    def test_a_dropped_generation_is_gone_and_others_are_not(self, store: Store) -> None:
        store.generation(BLUE).write(records(range(3)))
        store.generation(GREEN).write(records(range(5)))
        store.describe(BLUE, {"rows": 3})
        assert store.drop(BLUE) == BLUE
        assert store.generations() == {GREEN: {}}
        assert store.generation(GREEN).count() == 5
        assert store.generation(BLUE, metric="dot").count() == 0
        assert store.generations() == {BLUE: {}, GREEN: {}}

    def test_dropping_what_is_not_there_does_nothing(self, store: Store) -> None:
        store.generation(GREEN)
        assert store.drop(BLUE) == BLUE
        assert store.generations() == {GREEN: {}}

    # Several collections

    def test_collections_do_not_mix(self, store: Store) -> None:
        """Names that are prefixes of each other, or match each other as patterns, are names like others."""
        made = {"squad": "squad_0000b10e", "squad_v2": "squad_v2_0000b10e", "squadxv2": "squadxv2_0000b10e"}
        for size, (name, generation) in enumerate(made.items(), start=1):
            store.generation(generation, collection_name=name).write(records(range(size)))
            store.describe(generation, {"of": name}, name)
            store.promote(generation, None, name)
        for size, (name, generation) in enumerate(made.items(), start=1):
            assert store.generations(name) == {generation: {"of": name}}
            assert store.live(name).generation == generation
            assert store.generation(generation, collection_name=name).found() == ids(range(size))

    def test_first_generations_and_promotions_of_collections_at_once_are_all_kept(self, store: Store) -> None:
        clients = {name: store.client() for name in ("squad", "news", "wiki", "mail")}

        def start(name: str) -> None:
            store.generation(f"{name}_0000b10e", collection_name=name, client=clients[name])
            store.promote(f"{name}_0000b10e", None, name, client=clients[name])

        assert at_once(*(lambda name=name: start(name) for name in clients)) == [None] * 4
        assert [store.live(name).generation for name in clients] == [f"{name}_0000b10e" for name in clients]
        assert [store.generations(name) for name in clients] == [{f"{name}_0000b10e": {}} for name in clients]

    def test_a_generation_of_another_collection_is_not_dropped(self, store: Store) -> None:
        store.generation("squad_v2_0000b10e", collection_name="squad_v2").write(records(range(2)))
        with pytest.raises(StoreError, match="squad_v2_0000b10e"):
            store.drop("squad_v2_0000b10e", COLLECTION)
        assert store.generation("squad_v2_0000b10e", collection_name="squad_v2").count() == 2

    def _promote_green_after_blue(self, store: Store) -> None:
        store.generation(BLUE)
        store.generation(GREEN)
        store.promote(BLUE, expected_live=None)
        store.promote(GREEN, expected_live=BLUE)


def _by_id(rows: pa.Table) -> list[dict[str, Any]]:
    return rows.sort_by("id").to_pylist()


def _create_and_write(store: Store, rows: pa.Table) -> int:
    return store.generation().write(rows)


def _chain(error: BaseException | None) -> Iterator[Any]:
    while error:
        yield error
        error = error.__cause__ or error.__context__
