"""What Pinecone's store does when the service is busy, fails, is slow, forgetful or late."""

from collections.abc import Iterator
from itertools import pairwise
from typing import Any

import numpy as np
import pytest

from squadron.errors import StaleRecordError, StoreError
from squadron.settings.store_sections import PineconeSettings
from squadron.stores.contract import StoredRecord
from squadron.stores.pinecone import store as pinecone_store
from tests.stores.subject import (
    BLUE,
    DIMENSION,
    GREEN,
    Generation,
    Store,
    ids,
    passage_id,
    records,
    vectors,
    with_vectors,
)
from tests.wire.pinecone_server import PineconeServer

KEY = "pcsk_faults_0123456789"
UPSERT = "POST .*/vectors/upsert"
BUSY = {"status": 429, "body": "Too many requests"}


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[PineconeServer]:
    monkeypatch.setenv("PINECONE_API_KEY", KEY)
    with PineconeServer(KEY) as server:
        yield server


@pytest.fixture
def store(server: PineconeServer) -> Iterator[Store]:
    store = store_at(server)
    yield store
    store.close()


@pytest.fixture
def blue(store: Store) -> Generation:
    return store.generation()


def store_at(server: PineconeServer, **settings: Any) -> Store:
    return Store(pinecone_store, PineconeSettings(host=server.url, **{"max_retries": 2} | settings), secret=KEY)


def test_a_busy_service_is_asked_again_when_it_said(server: PineconeServer, blue: Generation) -> None:
    fault = server.faults.add(UPSERT, times=2, headers={"Retry-After": "0.3"}, **BUSY)
    before = len(server.requests(UPSERT))
    assert blue.write(records(range(50))) == 50
    sent = server.requests(UPSERT)[before:]
    assert (fault.done, len(sent)) == (2, 3)
    assert all(later.at - earlier.at >= 0.3 for earlier, later in pairwise(sent))
    assert blue.count() == 50


def test_a_repeated_request_is_told_of_with_its_reason(
    server: PineconeServer, blue: Generation, caplog: pytest.LogCaptureFixture
) -> None:
    server.faults.add(UPSERT, times=1, status=500, body="not now")
    blue.write(records(range(5)))
    (told,) = [record for record in caplog.records if record.name.startswith("squadron.")]
    assert (told.levelname, "writing 5 rows failed: [500] not now" in told.getMessage()) == ("WARNING", True)


@pytest.mark.parametrize("status", [429, 500, 502, 503, 504])
def test_a_service_that_only_fails_is_given_up_with_ids_and_reason(
    server: PineconeServer, blue: Generation, status: int
) -> None:
    fault = server.faults.add(UPSERT, status=status, body="not now")
    with pytest.raises(StoreError, match=rf"(?s)50 rows.*{passage_id(0)}.*and 45 more.*3 attempts.*{status}.*not now"):
        blue.write(records(range(50)))
    assert fault.done == 3, "one request and two repetitions, and none by the client's own doing"
    server.faults.clear()
    assert blue.count() == 0


def test_a_service_that_wants_hours_of_patience_is_given_up_at_once(server: PineconeServer, blue: Generation) -> None:
    fault = server.faults.add(UPSERT, headers={"Retry-After": "7200"}, **BUSY)
    with pytest.raises(StoreError, match="429"):
        blue.write(records(range(50)))
    assert fault.done == 1


def test_requests_refused_now_and_then_lose_nothing(server: PineconeServer) -> None:
    store = store_at(server, max_retries=20)
    blue = store.generation()
    fault = server.faults.add("POST|GET", every=3, status=503, headers={"Retry-After": "0"})
    rows = range(700)
    assert blue.write(records(rows)) == 700
    assert (blue.count(), sorted(blue.ids())) == (700, ids(rows))
    assert blue.delete(ids(range(10))) == 10
    assert blue.found() == ids(range(10, 700))
    assert fault.done > 10
    store.close()


@pytest.mark.parametrize(
    "what", ["/vectors/upsert", "/vectors/list", "/query", "/describe_index_stats", "/vectors/delete"]
)
def test_an_answer_that_breaks_off_is_asked_for_again(server: PineconeServer, blue: Generation, what: str) -> None:
    fault = server.faults.add(what, times=2, dropped=True)
    assert blue.write(records(range(200))) == 200
    assert blue.delete(ids(range(10))) == 10
    assert (blue.count(), len(blue.ids())) == (190, 190)
    assert fault.done == 2


def test_a_connection_that_always_breaks_off_is_given_up(server: PineconeServer, blue: Generation) -> None:
    fault = server.faults.add("/vectors/list", dropped=True)
    with pytest.raises(StoreError, match=r"cannot be reached.*3 attempts"):
        blue.ids()
    assert fault.done >= 3


def test_rows_that_the_service_left_out_are_sent_again(server: PineconeServer, blue: Generation) -> None:
    fault = server.faults.add(UPSERT, times=1, rows=30)
    assert blue.write(records(range(50))) == 50
    assert (fault.done, blue.count()) == (1, 50)


def test_rows_that_the_service_leaves_out_for_good_are_named(server: PineconeServer, blue: Generation) -> None:
    server.faults.add(UPSERT, rows=30)
    with pytest.raises(StoreError, match=rf"{passage_id(0)}.*3 attempts.*took 30 of 50 rows"):
        blue.write(records(range(50)))


def test_of_several_requests_only_the_failed_one_is_named(server: PineconeServer, blue: Generation) -> None:
    server.faults.add(UPSERT, times=1, status=400, body="no")
    with pytest.raises(StoreError, match=r"^80 rows were not written"):
        blue.write(records(range(640)))
    assert blue.count() == 640 - 80


def test_a_slow_answer_is_waited_for_no_longer_than_set(server: PineconeServer) -> None:
    store = store_at(server, timeout_seconds=1, max_retries=1)
    blue = store.generation()
    fault = server.faults.add(UPSERT, delay_seconds=30)
    with pytest.raises(StoreError, match=r"2 attempts: no answer within store.pinecone.timeout_seconds = 1"):
        blue.write(records(range(5)))
    assert fault.done == 2
    store.close()


def test_a_slow_answer_is_asked_for_again(server: PineconeServer) -> None:
    store = store_at(server, timeout_seconds=1)
    blue = store.generation()
    fault = server.faults.add(UPSERT, times=1, delay_seconds=30)
    assert blue.write(records(range(5))) == 5
    assert (fault.done, blue.count()) == (1, 5)
    store.close()


@pytest.mark.parametrize("status", [400, 401, 403, 404, 413])
def test_a_refusal_is_not_repeated_and_shows_no_key(
    server: PineconeServer, blue: Generation, caplog: pytest.LogCaptureFixture, status: int
) -> None:
    for name in ("", "pinecone", "httpx", "httpcore"):
        caplog.set_level("DEBUG", name)
    fault = server.faults.add(UPSERT, status=status, body=f"refused {KEY}" if status == 401 else "refused")
    with pytest.raises(StoreError) as refused:
        blue.write(records(range(5)))
    assert fault.done == 1
    assert passage_id(0) in str(refused.value)
    assert ("PINECONE_API_KEY" if status == 401 else "refused") in str(refused.value)
    assert "Upserting 5 vectors" in caplog.text, "the client's own log was read"
    assert KEY not in f"{refused.value!r} {refused.value.__context__!r} {caplog.text}"


@pytest.fixture
def late_store(monkeypatch: pytest.MonkeyPatch) -> Iterator[Store]:
    """At a service that shows a write to reads only after three that do not see it."""
    monkeypatch.setenv("PINECONE_API_KEY", KEY)
    with PineconeServer(KEY, lag_reads=3) as server:
        store = store_at(server)
        yield store
        store.close()


def test_what_was_written_is_counted_listed_and_found_though_the_service_shows_it_late(late_store: Store) -> None:
    blue = late_store.generation()
    blue.write(records(range(20)))
    assert blue.found() == ids(range(20))
    others = late_store.generation(client=late_store.client())
    blue.delete(ids(range(5)))
    assert (others.count(), sorted(others.ids())) == (15, ids(range(5, 20)))


def test_the_next_process_sees_what_is_live_though_the_service_shows_it_late(late_store: Store) -> None:
    late_store.generation()
    late_store.describe(BLUE, {"rows": 3})
    assert Store(pinecone_store, late_store.settings).generations() == {BLUE: {"rows": 3}}
    promoted = late_store.promote(BLUE, expected_live=None)
    assert Store(pinecone_store, late_store.settings).live() == promoted
    late_store.generation(GREEN)
    late_store.drop(GREEN)
    assert set(Store(pinecone_store, late_store.settings).generations()) == {BLUE}


@pytest.mark.xfail(strict=True, reason="Pinecone has no conditional write")
def test_a_record_that_another_run_writes_between_the_read_and_the_write_is_not_replaced(
    server: PineconeServer, store: Store
) -> None:
    store.generation(BLUE)
    other = store.client()
    server.faults.add(UPSERT, times=1, meanwhile=lambda: store.record(BLUE, '{"run": 1}', 1, client=other))
    with pytest.raises(StaleRecordError):
        store.record(BLUE, '{"run": 2}', expected_revision=1)


def test_a_record_that_another_run_replaces_before_it_is_read_back_is_reported(
    server: PineconeServer, store: Store
) -> None:
    store.generation(BLUE)
    other = store.client()

    def replaced_before_the_next(read: str) -> None:
        server.faults.add(read, times=1, meanwhile=lambda: store.record(BLUE, '{"run": 1}', 2, client=other))

    server.faults.add(UPSERT, times=1, meanwhile=lambda: replaced_before_the_next("/query"))
    with pytest.raises(StaleRecordError, match="holds revision 3, this run expected revision 1"):
        store.record(BLUE, '{"run": 2}', expected_revision=1)
    assert store.records()[BLUE] == StoredRecord('{"run": 1}', 3)


def test_a_record_of_an_earlier_version_has_the_first_revision(server: PineconeServer, store: Store) -> None:
    store.generation(BLUE)
    _, metadata = server.root.namespaces["_squadron"].rows[f"generation/{BLUE}"]
    assert metadata.pop("revision") == "1"
    stored = store.records()[BLUE]
    assert stored.revision == 1
    assert store.record(BLUE, '{"rows": 4}', expected_revision=1) == StoredRecord('{"rows": 4}', 2)
    assert store.records() == {BLUE: StoredRecord('{"rows": 4}', 2)}


def test_what_the_service_does_not_show_in_time_is_an_error(server: PineconeServer) -> None:
    store = store_at(server, consistency_seconds=0.2)
    blue = store.generation()
    server.root.lag_reads = 10**6
    blue.write(records(range(5)))
    with pytest.raises(StoreError, match=r"does not show.*store.pinecone.consistency_seconds"):
        blue.count()
    store.close()


def test_rows_of_strangers_are_told_of(server: PineconeServer, caplog: pytest.LogCaptureFixture) -> None:
    store = store_at(server, consistency_seconds=0.2)
    blue = store.generation()
    blue.write(records(range(5)))
    server.root.upsert([{"id": "stranger", "values": [1.0] * DIMENSION}], BLUE)
    assert blue.count() == 5
    assert "5 ids of passages, but Pinecone reports 6 rows" in caplog.text
    store.close()


def test_an_addressed_index_of_another_shape_is_refused(server: PineconeServer, store: Store) -> None:
    store.generation(BLUE)
    with pytest.raises(StoreError, match=rf"store.pinecone.host '{server.url}'.* 8 dimensions .*cosine.* 16 by cosine"):
        store.generation(GREEN, dimension=16)


def test_a_generation_of_another_dimension_and_metric_is_built_beside_and_promoted(
    server: PineconeServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PINECONE_CONTROLLER_HOST", server.url)
    store = Store(pinecone_store, PineconeSettings(index="books"))
    store.generation(BLUE).write(records(range(3)))
    store.promote(BLUE, expected_live=None)
    store.generation(GREEN, dimension=24, metric="dot").write(records(range(5), dimension=24))
    store.promote(GREEN, expected_live=BLUE)
    assert sorted(server.indexes) == ["books-24-dotproduct", "books-8-cosine"]
    assert (store.live().generation, store.live().revision) == (GREEN, 2)
    store.promote(BLUE, expected_live=GREEN)
    assert (store.live().generation, store.live().revision) == (BLUE, 3)
    store.drop(GREEN)
    assert set(store.generations()) == {BLUE}
    store.close()


def test_one_connection_sends_as_many_rows_at_once_as_the_service_takes(server: PineconeServer) -> None:
    store = store_at(server, concurrency=1)
    blue = store.generation()
    before = len(server.requests(UPSERT))
    assert blue.write(records(range(2_500))) == blue.count() == 2_500
    assert len(server.requests(UPSERT)) - before == 3
    store.close()


def test_texts_that_grow_in_json_are_sent_within_the_limits(server: PineconeServer) -> None:
    store = store_at(server, concurrency=1)
    blue, text = store.generation(), '"\n\x01' * 3_000
    assert blue.write(records(range(300), text=[text] * 300)) == blue.count() == 300
    assert max(seen.size for seen in server.requests(UPSERT)) > 1_000_000
    store.close()


@pytest.mark.parametrize("size", [1e-6, 1.0, 1e6])
def test_vectors_are_stored_to_the_last_bit(server: PineconeServer, blue: Generation, size: float) -> None:
    values = vectors(200) * np.float32(size)
    assert blue.write(with_vectors(records(range(200)), values)) == blue.count() == 200
    stored = server.root.namespaces[BLUE].rows
    assert all((stored[passage_id(row)][0] == values[row]).all() for row in range(200))
