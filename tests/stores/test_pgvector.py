"""pgvector keeps the contract, in a real Postgres of the tests' own."""

from collections.abc import Iterator, Mapping
from itertools import count
from pathlib import Path

import numpy as np
import psycopg
import pytest
from pydantic import ValidationError

from squadron.settings.store_sections import PgvectorSettings
from squadron.stores.contract import StoredRecord
from squadron.stores.pgvector import store as pgvector_store
from tests.stores import postgres
from tests.stores.contract import StoreContract
from tests.stores.postgres import Postgres
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

_schemas = count()


@pytest.fixture(scope="session")
def server() -> Iterator[Postgres]:
    place = postgres.programs()
    if place is None:
        pytest.skip(postgres.WANTED)
    try:
        with postgres.running(place) as server:
            yield server
    except PermissionError as error:
        pytest.skip(f"Postgres refuses to run as root, and nobody may not run it: {error}. {postgres.WANTED}")


@pytest.fixture
def settings(server: Postgres, monkeypatch: pytest.MonkeyPatch) -> PgvectorSettings:
    """A schema of its own for each test; an index from 500 rows."""
    monkeypatch.setenv("PGPASSWORD", server.password)
    monkeypatch.setenv("PGPASSFILE", "/dev/null")
    return PgvectorSettings(uri=server.uri, schema_name=f"test_{next(_schemas)}", index_min_rows=500)


@pytest.fixture
def indexing(settings: PgvectorSettings) -> Iterator[Store]:
    """A store on connections that read an index wherever they can: in small tables Postgres else does not."""
    uri = f"{settings.uri}&options=-c%20enable_seqscan%3Doff"
    store = Store(pgvector_store, settings.model_copy(update={"uri": uri}))
    yield store
    store.close()


class TestPgvector(StoreContract):
    never = {
        "nul_characters": "Postgres keeps no U+0000 in a text",
        "versions": "Postgres keeps no earlier versions of a table",
    }
    rows_over_limits = pgvector_store.IDS_PER_CALL + 500
    bytes_over_limits = 5_000_000

    @pytest.fixture
    def store(self, settings: PgvectorSettings, server: Postgres) -> Store:
        return Store(pgvector_store, settings, secret=server.password)

    def unusable(self, store: Store, tmp_path: Path) -> Mapping[str, Unusable]:
        nowhere = PgvectorSettings(uri=f"postgresql://squadron@/postgres?host={tmp_path}", deadline_seconds=0.01)
        refusing = PgvectorSettings(uri="postgresql://squadron@127.0.0.1:1/postgres", deadline_seconds=0.01)
        no_database = PgvectorSettings(uri=store.settings.uri.replace("/postgres?", "/absent?"))
        return {
            "an unreachable address": Unusable(nowhere, names="store.pgvector.uri"),
            "a port where nobody listens": Unusable(refusing, names="store.pgvector.uri"),
            "an absent database": Unusable(no_database, names="absent"),
            "a missing password": Unusable(store.settings, names="PGPASSWORD", environment={"PGPASSWORD": None}),
            "a wrong password": Unusable(store.settings, names="PGPASSWORD", environment={"PGPASSWORD": "wrong-9317"}),
        }


@pytest.mark.parametrize(
    "uri",
    [
        "postgresql://me:hunter2@host/db",
        "postgres://me:hunter2/?#:x@host/db",
        "postgresql://me@host/db?password=hunter2",
        "postgresql://me@host/db?sslpassword=hunter2",
    ],
)
def test_a_password_in_the_address_is_refused_and_not_shown(uri: str) -> None:
    with pytest.raises(ValidationError, match="PGPASSWORD") as refused:
        PgvectorSettings(uri=uri)
    assert "hunter2" not in str(refused.value)


@pytest.mark.parametrize(
    "uri", ["postgresql://host:5432/db", "postgresql://me@one:1,two:2/db", "postgresql://me@/db?host=/run/postgresql"]
)
def test_an_address_without_a_password_is_taken(uri: str) -> None:
    assert PgvectorSettings(uri=uri).uri == uri


@pytest.mark.parametrize("uri", ["host", "dbname=db password=hunter2", "mysql://host/db"])
def test_what_is_no_address_of_a_postgres_is_refused(uri: str) -> None:
    with pytest.raises(ValidationError, match="postgresql://USER@HOST"):
        PgvectorSettings(uri=uri)


@pytest.mark.parametrize("metric", METRICS)
def test_an_index_finds_nearly_all_that_exact_search_finds(indexing: Store, metric: str) -> None:
    blue, rows, queries = indexing.generation(metric=metric), records(range(2000)), vectors(20, seed=3)
    blue.write(rows)
    assert blue.build_index() == "HNSW over 2000 rows"
    found = blue.search(queries, top_k=10)
    scores = exact_scores(queries, vectors_of(rows), metric)
    best = {(query, row) for query, nearest in enumerate(np.argsort(-scores, axis=1)[:, :10]) for row in nearest}
    row_of = {passage_id(row): row for row in range(2000)}
    pairs = [
        (query, row_of[key]) for query, key in zip(*found.select(["query", "id"]).to_pydict().values(), strict=True)
    ]
    assert len(best & set(pairs)) >= 0.98 * len(best)
    np.testing.assert_allclose(found["score"], [scores[pair] for pair in pairs], rtol=1e-3, atol=1e-3)
    assert _index_scans(indexing) == 20


def test_writers_of_the_same_rows_in_other_orders_do_not_wait_for_each_other(indexing: Store) -> None:
    one, other = (indexing.generation(client=indexing.client()) for _ in range(2))
    rows = records(range(5000))
    reverse = rows.take([*range(4999, -1, -1)])
    assert at_once(lambda: one.write(rows), lambda: other.write(reverse)) == [5000, 5000]
    assert at_once(lambda: one.write(rows), lambda: other.write(reverse)) == [5000, 5000]


def test_a_connection_that_the_server_ended_is_made_anew_for_whatever_is_asked(settings: PgvectorSettings) -> None:
    store = Store(pgvector_store, settings)
    blue, rows = store.generation(), records(range(10))
    blue.write(rows)
    asked = {
        "write": (lambda: blue.write(rows), 10),
        "ids": (lambda: sorted(blue.ids()), ids(range(10))),
        "search": (lambda: blue.found(), ids(range(10))),
        "promote": (lambda: store.promote(BLUE, expected_live=None).generation, BLUE),
        "delete": (lambda: blue.delete(ids(range(3))), 3),
        "count": (lambda: blue.count(), 7),
        "index": (lambda: blue.build_index(), "none: exact search over 7 rows"),
    }
    with psycopg.connect(settings.uri, autocommit=True) as other:
        for name, (ask, wanted) in asked.items():
            end = "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity WHERE application_name = 'squadron'"
            assert other.execute(end).fetchone() != (0,), name
            assert ask() == wanted, name
    store.close()


def test_a_record_of_an_earlier_version_has_the_first_revision(settings: PgvectorSettings) -> None:
    store = Store(pgvector_store, settings)
    for generation in (BLUE, GREEN):
        store.generation(generation)
    with psycopg.connect(settings.uri) as other:
        other.execute(f"ALTER TABLE {settings.schema_name}._generations DROP COLUMN revision")
    stored = store.records()
    assert [record.revision for record in stored.values()] == [1, 1]
    assert store.generation(GREEN).count() == 0
    assert store.generation("squad_0000feed").count() == 0
    assert store.record(BLUE, '{"rows": 4}', expected_revision=1) == StoredRecord('{"rows": 4}', 2)
    assert {name: record.revision for name, record in store.records().items()} == {
        BLUE: 2,
        GREEN: 1,
        "squad_0000feed": 1,
    }
    store.close()


def test_below_its_minimum_there_is_no_index(indexing: Store) -> None:
    blue = indexing.generation()
    blue.write(records(range(499)))
    assert blue.build_index() == "none: exact search over 499 rows"
    blue.write(records(range(499, 500)))
    assert blue.build_index() == "HNSW over 500 rows"


def test_a_filter_finds_rows_that_an_index_would_not_weigh(indexing: Store) -> None:
    blue, values = indexing.generation(metadata_columns=["lang"]), vectors(3000)
    query = -values[:1]
    opposite = set(np.argsort(values @ query[0])[:5].tolist())
    blue.write(records(range(3000), lang=["rare" if row in opposite else "en" for row in range(3000)]))
    assert blue.build_index() == "HNSW over 3000 rows"
    assert set(blue.search(query, top_k=5, filter={"lang": "rare"})["id"].to_pylist()) == set(map(passage_id, opposite))
    assert _index_scans(indexing) == 0


def test_more_matches_than_an_index_weighs_are_all_found(indexing: Store) -> None:
    blue = indexing.generation()
    blue.write(records(range(2000)))
    blue.build_index()
    assert blue.search(vectors(1), top_k=1500).num_rows == 1500


def test_vectors_wider_than_an_index_takes_are_searched_exactly(indexing: Store) -> None:
    blue, rows = indexing.generation(dimension=2001), records(range(500), dimension=2001)
    blue.write(rows)
    assert blue.build_index() == "none: exact search over 500 rows"
    assert blue.search(vectors_of(rows)[:1], top_k=1)["id"].to_pylist() == [passage_id(0)]


def _index_scans(store: Store) -> int:
    """How often searches read the index of a generation."""
    used = "SELECT sum(idx_scan) FROM pg_stat_user_indexes WHERE indexrelname LIKE '%%hnsw' AND schemaname = %s"

    def read(connection: psycopg.Connection) -> int:
        connection.execute("SELECT pg_stat_force_next_flush()")
        return int(connection.execute(used, [store.settings.schema_name]).fetchone()[0])

    return store.first_client.answered("the statistics could not be read", read)
