"""What becomes of Weaviate's faults: those that may pass are waited out, others told; no row is lost on the way."""

import gc
import logging
import re
import warnings
from collections.abc import Callable, Iterator
from uuid import UUID

import pyarrow as pa
import pytest
from weaviate.classes.data import DataObject

from squadron.errors import SettingsError, StaleRecordError, StoreError
from squadron.settings.store_sections import WeaviateSettings
from squadron.stores.contract import StoredRecord
from squadron.stores.weaviate import rows as weaviate_rows
from squadron.stores.weaviate import store as weaviate_store
from tests.stores.subject import BLUE, GREEN, Generation, Store, ids, passage_id, records, vectors
from tests.wire.weaviate_server import WeaviateServer

KEY = "weaviate-key-0123456789"
Opening = Callable[..., Store]


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[WeaviateServer]:
    monkeypatch.setenv("WEAVIATE_API_KEY", KEY)
    with WeaviateServer(key=KEY) as running:
        yield running


@pytest.fixture
def opened(server: WeaviateServer) -> Iterator[Opening]:
    """Opens a store with other settings than the usual ones, and closes it."""
    stores = []

    def opening(**changed: object) -> Store:
        given = {"uri": server.uri, "grpc_port": server.grpc_port, "max_retries": 2, "concurrency": 2}
        stores.append(Store(weaviate_store, WeaviateSettings(**given | changed), secret=KEY))
        return stores[-1]

    yield opening
    for store in stores:
        store.close()


@pytest.fixture
def blue(opened: Opening) -> Generation:
    return opened().generation()


# Passing faults


@pytest.mark.parametrize("status", [503, 429])
def test_a_batch_that_a_server_could_not_take_is_sent_again(
    server: WeaviateServer, blue: Generation, status: int
) -> None:
    server.faults.add("BatchObjects", times=1, status=status)
    assert blue.write(records(range(10))) == 10
    assert (blue.count(), server.batches) == (10, [10, 10])


@pytest.mark.parametrize("call", ["Search", "Aggregate", "BatchDelete", "GET /v1/schema/Squad"])
def test_another_request_that_a_server_could_not_take_is_sent_again(
    server: WeaviateServer, opened: Opening, call: str
) -> None:
    blue = opened().generation()
    blue.write(records(range(10)))
    fault = server.faults.add(call, times=1, status=503)
    assert opened().generation().count() == 10
    assert blue.found() == ids(range(10))
    assert blue.delete(ids(range(3))) == 3
    assert fault.done == 1


def test_a_connection_cut_before_the_answer_loses_no_row_and_doubles_none(
    server: WeaviateServer, blue: Generation
) -> None:
    fault = server.faults.add("BatchObjects", times=1, dropped=True)
    assert blue.write(records(range(300))) == 300
    assert (fault.done, blue.count(), sorted(blue.ids())) == (1, 300, ids(range(300)))


@pytest.mark.parametrize("call", ["POST /v1/schema", "POST /v1/objects", "GET /v1/schema"])
def test_a_generation_is_created_once_when_the_answer_is_lost(
    server: WeaviateServer, opened: Opening, call: str
) -> None:
    fault = server.faults.add(call, times=1, dropped=True)
    store = opened()
    assert store.generation().count() == 0
    assert (fault.done, store.generations()) == (1, {BLUE: {}})


def test_an_answer_that_does_not_come_in_time_is_asked_for_again(server: WeaviateServer, opened: Opening) -> None:
    blue = opened(timeout_seconds=3).generation()
    server.faults.add("BatchObjects", times=1, delay_seconds=600)
    assert blue.write(records(range(10))) == 10
    assert server.count("BatchObjects") == 2


@pytest.mark.parametrize("fault", [{"status": 503}, {"dropped": True}], ids=["busy", "cut"])
def test_a_server_that_is_not_ready_yet_is_waited_for(
    server: WeaviateServer, opened: Opening, fault: dict[str, object]
) -> None:
    away = server.faults.add("GET /v1/meta", times=2, **fault)
    assert opened().generation().count() == 0
    assert away.done == 2


def test_an_object_refused_once_is_sent_again_alone(server: WeaviateServer, blue: Generation) -> None:
    server.refuse(passage_id(3), "the shard is busy", times=1)
    assert blue.write(records(range(10))) == 10
    assert (blue.count(), server.batches) == (10, [10, 1])


# Lasting faults


@pytest.mark.parametrize(
    ("call", "doing"), [("BatchObjects", f"write 1 rows to '{BLUE}'"), ("BatchDelete", f"delete 1 rows of '{BLUE}'")]
)
def test_a_request_that_a_server_never_takes_ends_in_an_error_after_some_attempts(
    server: WeaviateServer, blue: Generation, call: str, doing: str
) -> None:
    server.faults.add(call, status=503, body="no leader")
    with pytest.raises(StoreError, match=rf"{doing} after 3 attempts: UNAVAILABLE: no leader"):
        blue.write(records(range(1))) if call == "BatchObjects" else blue.delete(ids(range(1)))
    assert server.count(call) == 3


def test_a_batch_that_times_out_every_time_ends_in_an_error(server: WeaviateServer, blue: Generation) -> None:
    server.faults.add("BatchObjects", status=504)
    with pytest.raises(StoreError, match=rf"write 10 rows to '{BLUE}' after 3 attempts: DEADLINE_EXCEEDED"):
        blue.write(records(range(10)))
    assert server.count("BatchObjects") == 3


@pytest.mark.slow
def test_what_the_client_repeats_by_itself_counts_as_attempts(server: WeaviateServer, blue: Generation) -> None:
    """The client tries six times, and waits for 63 seconds in all."""
    server.faults.add("Aggregate", status=503)
    with pytest.raises(StoreError, match=f"did not count the rows of '{BLUE}' after 6 attempts: UNAVAILABLE"):
        blue.count()
    assert server.count("Aggregate") == 6


def test_an_object_refused_every_time_is_named_with_the_reason_and_the_others_are_written(
    server: WeaviateServer, blue: Generation, caplog: pytest.LogCaptureFixture
) -> None:
    server.refuse(passage_id(3), "text is too strange")
    with pytest.raises(StoreError, match=rf"refused 1 of 300 rows.*{passage_id(3)}: text is too strange"):
        blue.write(records(range(300)))
    assert blue.found() == sorted(set(ids(range(300))) - {passage_id(3)})
    assert "text of document" not in caplog.text


def test_a_batch_refused_as_a_whole_is_named_with_the_reason(server: WeaviateServer, blue: Generation) -> None:
    server.refuse(passage_id(0), "text is too strange")
    with pytest.raises(StoreError, match=rf"refused 1 of 1 rows.*{passage_id(0)}: text is too strange"):
        blue.write(records(range(1)))


def test_a_row_that_stays_after_a_delete_is_told_with_the_reason(server: WeaviateServer, blue: Generation) -> None:
    blue.write(records(range(10)))
    server.refuse(passage_id(3), "the shard is read-only")
    with pytest.raises(StoreError, match=rf"1 rows were not deleted from '{BLUE}': the shard is read-only"):
        blue.delete(ids(range(5)))
    assert blue.found() == sorted([passage_id(3), *ids(range(5, 10))])


def test_a_key_that_is_refused_later_is_not_tried_again_and_not_shown(
    server: WeaviateServer, blue: Generation, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    server.key = "another-key"
    with pytest.raises(SettingsError, match=r"refused the key in WEAVIATE_API_KEY.*weaviate_default") as refused:
        blue.write(records(range(10)))
    assert server.count("BatchObjects") == 1
    assert KEY not in _messages(refused.value) + caplog.text


# Limits of the server


def test_a_batch_is_cut_to_messages_that_the_server_takes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WEAVIATE_API_KEY", KEY)
    with WeaviateServer(key=KEY, message_bytes=40_000) as server:
        store = Store(weaviate_store, WeaviateSettings(uri=server.uri, grpc_port=server.grpc_port))
        blue = store.generation()
        assert blue.write(records(range(20), text=["x" * 9_000] * 20)) == 20
        assert (blue.count(), set(server.batches)) == (20, {2})
        with pytest.raises(StoreError, match=r"RESOURCE_EXHAUSTED: .*larger than max"):
            blue.write(records(range(1), text=["x" * 50_000]))
        store.close()


def test_a_batch_is_cut_to_messages_of_so_many_rows_of_which_few_are_under_way(
    server: WeaviateServer, blue: Generation
) -> None:
    assert blue.write(records(range(1_000))) == 1_000
    assert sorted(server.batches) == [1_000 % weaviate_rows.ROWS_PER_MESSAGE, *[weaviate_rows.ROWS_PER_MESSAGE] * 7]
    assert server.most_under_way <= 2


def test_more_rows_than_the_server_deletes_in_one_call_are_deleted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WEAVIATE_API_KEY", KEY)
    with WeaviateServer(key=KEY, query_maximum_results=1_000) as server:
        store = Store(weaviate_store, WeaviateSettings(uri=server.uri, grpc_port=server.grpc_port))
        blue = store.generation()
        blue.write(records(range(1_900)))
        assert blue.delete(ids(range(1_800))) == 1_800
        assert (blue.count(), server.count("BatchDelete")) == (100, 2)
        store.close()


def test_ids_are_listed_in_pages(server: WeaviateServer, opened: Opening) -> None:
    blue, rows = opened(concurrency=1).generation(), range(2 * weaviate_rows.IDS_PER_PAGE)
    blue.write(records(rows))
    before = server.count("Search")
    assert sorted(blue.ids()) == ids(rows)
    assert server.count("Search") - before == 3


def test_ids_at_the_borders_of_the_parts_that_are_listed_at_once_are_listed_once(blue: Generation) -> None:
    keys = [f"{key:032x}" for key in (1, 2**127 - 1, 2**127, 2**127 + 1, 2**128 - 1)]
    rows = records(range(len(keys)))
    blue.write(rows.set_column(0, "id", pa.array(keys, pa.string())))
    assert sorted(blue.ids()) == keys


def test_messages_in_bulk_are_those_that_the_client_would_send(server: WeaviateServer, opened: Opening) -> None:
    blue = opened(concurrency=1).generation(metadata_columns=["Author"])
    rows = records(range(3), Author=["Ada", None, ""])
    blue.write(rows)
    blue.ids()
    ours = dict(server.requests)

    plain = rows.rename_columns(["id", "document_id", "title", "ordinal", "text", "_Author", "vector"]).to_pylist()
    plain = [{name: value for name, value in row.items() if value is not None} for row in plain]
    objects = [DataObject(row, str(UUID(row.pop("id"))), vector=row.pop("vector")) for row in plain]
    blue.table.rows.data.insert_many(objects)
    blue.table.rows.query.fetch_objects(limit=weaviate_rows.IDS_PER_PAGE, return_properties=False)
    assert ours["BatchObjects"] == server.requests["BatchObjects"]
    assert ours["Search"] == server.requests["Search"]


# The index


def test_the_index_is_waited_for(server: WeaviateServer, blue: Generation) -> None:
    server.index_queue = [20, 10, 0]
    assert blue.build_index() == "HNSW (cosine) over 0 rows"
    assert server.count("shards") == 3


def test_an_index_that_makes_no_progress_is_not_waited_for(server: WeaviateServer, blue: Generation) -> None:
    server.index_queue = [20] * 10
    hasty = blue.store.settings.model_copy(update={"timeout_seconds": 0.01})
    with pytest.raises(StoreError, match=rf"20 vectors of '{BLUE}' wait to be indexed"):
        weaviate_store.index_built(blue.table, "cosine", hasty, None)


def test_a_read_only_shard_is_told(server: WeaviateServer, blue: Generation) -> None:
    server.shard_status = "READONLY"
    with pytest.raises(StoreError, match=rf"'{BLUE}' is read-only \(shards shard1\)"):
        blue.build_index()


# Records


@pytest.mark.xfail(strict=True, reason="Weaviate has no conditional write")
def test_a_record_that_another_run_writes_between_the_read_and_the_write_is_not_replaced(
    server: WeaviateServer, opened: Opening
) -> None:
    store = opened()
    store.generation(BLUE)
    other = store.client()
    server.faults.add("BatchObjects", times=1, meanwhile=lambda: store.record(BLUE, '{"run": 1}', 1, client=other))
    with pytest.raises(StaleRecordError):
        store.record(BLUE, '{"run": 2}', expected_revision=1)


def test_a_record_that_another_run_replaces_before_it_is_read_back_is_reported(
    server: WeaviateServer, opened: Opening
) -> None:
    store = opened()
    store.generation(BLUE)
    other = store.client()

    def replaced_before_the_next(read: str) -> None:
        server.faults.add(read, times=1, meanwhile=lambda: store.record(BLUE, '{"run": 1}', 2, client=other))

    server.faults.add("BatchObjects", times=1, meanwhile=lambda: replaced_before_the_next("Search"))
    with pytest.raises(StaleRecordError, match="holds revision 3, this run expected revision 1"):
        store.record(BLUE, '{"run": 2}', expected_revision=1)
    assert store.records()[BLUE] == StoredRecord('{"run": 1}', 3)


def test_a_record_of_an_earlier_version_has_the_first_revision(server: WeaviateServer, opened: Opening) -> None:
    store = opened()
    store.generation(BLUE)
    (entry,) = server.database.open("SquadronCatalog").objects.values()
    entry.properties["entry"] = '{"rows": 3}'
    assert store.records() == {BLUE: StoredRecord('{"rows": 3}', 1)}
    assert store.record(BLUE, '{"rows": 4}', expected_revision=1) == StoredRecord('{"rows": 4}', 2)
    assert store.records() == {BLUE: StoredRecord('{"rows": 4}', 2)}


# Classes and aliases


def test_a_class_that_squadron_did_not_make_is_left_alone(server: WeaviateServer, opened: Opening) -> None:
    server.database.add_class({"class": "Squad_0000b10e", "description": "somebody's"})
    with pytest.raises(StoreError, match="'Squad_0000b10e' that Squadron did not make"):
        opened().generation(BLUE)
    with pytest.raises(StoreError, match="'Squad_0000b10e' that Squadron did not make"):
        opened().drop(BLUE)
    assert "Squad_0000b10e" in server.database.classes


def test_the_alias_follows_the_live_generation(server: WeaviateServer, opened: Opening) -> None:
    store = opened()
    for generation, before in [(BLUE, None), (GREEN, BLUE), (BLUE, GREEN)]:
        store.generation(generation)
        store.promote(generation, expected_live=before)
        assert server.database.aliases == {"Squad": f"Squad{generation.removeprefix('squad')}"}


def test_an_alias_that_did_not_follow_does_when_the_step_is_repeated(server: WeaviateServer, opened: Opening) -> None:
    store = opened()
    store.generation(BLUE)
    fault = server.faults.add("PUT /v1/aliases", status=500)
    with pytest.raises(StoreError, match="move the alias Squad: 500"):
        store.promote(BLUE, expected_live=None)
    fault.times = fault.done
    assert store.promote(BLUE, expected_live=None) == store.live()
    assert server.database.aliases == {"Squad": "Squad_0000b10e"}


def test_an_alias_whose_name_is_a_class_already_is_left_out(
    server: WeaviateServer, opened: Opening, caplog: pytest.LogCaptureFixture
) -> None:
    server.database.add_class({"class": "Squad", "description": "somebody's"})
    store = opened()
    store.generation(BLUE)
    assert store.promote(BLUE, expected_live=None).generation == BLUE
    assert server.database.aliases == {}
    assert "there is a class Squad already" in caplog.text


def test_a_server_without_aliases_needs_none(server: WeaviateServer, opened: Opening) -> None:
    server.version = "1.31.0"
    store = opened()
    store.generation(BLUE)
    assert store.promote(BLUE, expected_live=None).generation == BLUE
    assert server.count("aliases") == 0


def test_a_server_that_is_too_old_is_refused(server: WeaviateServer, opened: Opening) -> None:
    server.version = "1.26.0"
    with pytest.raises(StoreError, match=re.escape("1.26.0 is not supported")):
        opened().client()


# Connections


def test_a_connection_that_nobody_uses_any_more_is_closed(server: WeaviateServer) -> None:
    gc.collect()  # what other tests have left is not to warn here
    with warnings.catch_warnings(record=True) as warned:
        warnings.simplefilter("always")
        settings = WeaviateSettings(uri=server.uri, grpc_port=server.grpc_port)
        generation = weaviate_store.generation_table(weaviate_store.client(settings), "squad", BLUE, 8, "cosine", ())
        assert weaviate_store.matches(generation, vectors(1), 1, "cosine", {}).num_rows == 0
        del generation
        gc.collect()
    assert [str(warning.message) for warning in warned if "Weaviate" in str(warning.message)] == []


def test_a_password_in_the_address_is_not_shown(server: WeaviateServer) -> None:
    with pytest.raises(StoreError, match=re.escape("store.weaviate.uri 'http://127.0.0.1:9'")) as refused:
        weaviate_store.client(WeaviateSettings(uri="http://somebody:secret@127.0.0.1:9", max_retries=0))
    assert "secret" not in _messages(refused.value)


def _messages(error: BaseException | None) -> str:
    return f"{error!r} {_messages(error.__cause__ or error.__context__)}" if error else ""
