"""OpenAI's Batch API: whole runs against our server, and what happens to them when something goes wrong."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from squadron.__main__ import app
from squadron.cache.keys import text_digest
from squadron.dataflow.vector_space import vector_space
from squadron.embeddings.openai_batch.service import parts
from squadron.embeddings.remote.failures import BusyServiceError, DeniedServiceError
from squadron.errors import GuardError, SettingsError
from squadron.generations.search import search
from squadron.runs.batched_shard import batched_shard, batched_shards
from squadron.runs.ingest_shard import ingest_shard
from squadron.runs.plan import plan_run
from squadron.runs.whole_run import ingest
from squadron.settings.schema import Settings, leaves, value_of
from tests.wire.openai_batch_server import OpenAIBatchServer

KEY = "sk-batch-0123456789abcdef"
DOCUMENTS = 40
Changed = Callable[..., Settings]


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[OpenAIBatchServer]:
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    with OpenAIBatchServer(key=KEY) as running:
        yield running


@pytest.fixture
def batch_settings(server: OpenAIBatchServer, settings_with: Changed, tmp_path: Path) -> Changed:
    """Settings of 40 documents of a line each, embedded in batches. Takes changes by dotted key."""
    write_corpus(tmp_path, DOCUMENTS)
    values = {
        "source.name": "files",
        "source.path": "corpus.jsonl",
        "source.columns.text": "text",
        "source.columns.document_id": "id",
        "source.columns.question_id": None,
        "evaluation.max_questions": 0,
        "passages.template": "plain_v1",
        "embedding.service": "openai",
        "embedding.openai.base_url": server.url + "/v1",
        "embedding.openai.dimensions": 256,
        "embedding.openai.mode": "batch",
        "embedding.openai.batch_poll_seconds": 0.01,
        "cache.path": "cache",
    }
    return lambda **changes: settings_with(**values | changes)


def write_corpus(folder: Path, documents: int) -> None:
    lines = [json.dumps({"id": str(number), "text": line(number)}) + "\n" for number in range(documents)]
    (folder / "corpus.jsonl").write_text("".join(lines))


def line(number: int) -> str:
    return f"Line {number} of the corpus."


def in_batches(server: OpenAIBatchServer) -> set[str]:
    """Texts of all batches that were created."""
    lines = [json.loads(line) for batch in server.batches for line in server.files[batch.input_file_id].splitlines()]
    return {line["body"]["input"] for line in lines}


def sync_texts(server: OpenAIBatchServer) -> set[str]:
    """Texts of the corpus that were sent at the usual price."""
    return {text for seen in server.seen for text in seen.texts} & {line(number) for number in range(DOCUMENTS)}


def test_a_corpus_is_embedded_in_one_batch_at_half_the_price_and_found(
    server: OpenAIBatchServer, batch_settings: Changed
) -> None:
    settings = batch_settings()
    usual = plan_run(batch_settings(**{"embedding.openai.mode": "sync"}), "dry", dry_run=True)

    first = ingest(settings)
    second = ingest(settings)

    counts = first["counts"]
    assert (counts["embedded"], counts["cached"], counts["written"], counts["quarantined"]) == (40, 0, 40, 0)
    assert first["cost"] == pytest.approx(usual.cost / 2) == pytest.approx(first["tokens"] * 0.01 / 1e6)
    assert first["billed_tokens"] == first["tokens"]
    assert first["billed_cost"] == pytest.approx(first["cost"])
    assert second["counts"]["unchanged"] == 40
    assert (len(server.batches), len(in_batches(server)), sync_texts(server)) == (1, 40, set())
    assert max(server.embedded[line(number)] for number in range(DOCUMENTS)) == 1
    assert search(settings, "Which line is line 7?", top_k=1)[0]["text"]


def test_the_vectors_are_those_of_the_other_mode(server: OpenAIBatchServer, batch_settings: Changed) -> None:
    batched = ingest(batch_settings())

    at_once = ingest(batch_settings(**{"embedding.openai.mode": "sync", "cache.path": None}))

    assert at_once["generation"] == batched["generation"]
    assert at_once["counts"]["unchanged"] == 40
    moved = ingest(batch_settings(**{"embedding.openai.mode": "sync", "store.lancedb.uri": "another"}))
    assert (moved["counts"]["cached"], moved["counts"]["embedded"]) == (40, 0)


def test_several_shards_are_under_way_at_the_same_time(server: OpenAIBatchServer, batch_settings: Changed) -> None:
    report = ingest(batch_settings(**{"ingest.shard_passages": 15}))

    assert report["counts"]["embedded"] == report["counts"]["written"] == 40
    requests = [seen.line for seen in server.seen]
    first_look = next(number for number, request in enumerate(requests) if "GET /v1/batches/" in request)
    assert requests[:first_look].count("POST /v1/batches") == len(server.batches) == 3


def test_a_refused_text_is_left_out_and_tried_again_by_the_next_run(
    server: OpenAIBatchServer, batch_settings: Changed, caplog: pytest.LogCaptureFixture
) -> None:
    server.refused.add(line(7))

    first = ingest(batch_settings(**{"guard.max_quarantined_fraction": 0.1}))
    server.refused.clear()
    second = ingest(batch_settings())

    assert (first["counts"]["embedded"], first["counts"]["written"], first["counts"]["quarantined"]) == (39, 39, 1)
    assert "answered 400" in caplog.text
    assert (second["counts"]["unchanged"], second["counts"]["embedded"]) == (39, 1)
    assert (len(server.batches), sync_texts(server)) == (2, set())


def test_a_batch_that_expired_keeps_what_it_finished_and_the_rest_is_submitted_anew(
    server: OpenAIBatchServer, batch_settings: Changed
) -> None:
    server.ends, server.finished_texts = ["expired"], 25

    report = ingest(batch_settings())

    assert report["counts"]["embedded"] == report["counts"]["written"] == 40
    assert [batch.counts["completed"] for batch in server.batches] == [25, 15]
    assert {server.embedded[line(number)] for number in range(DOCUMENTS)} == {1}


def test_a_batch_that_expired_with_nothing_done_is_an_error_and_the_next_run_begins_anew(
    server: OpenAIBatchServer, batch_settings: Changed
) -> None:
    server.ends = ["expired"]
    with pytest.raises(BusyServiceError, match=r"batch_0000 is expired with 0 of 40 texts done: run again"):
        ingest(batch_settings())

    assert ingest(batch_settings())["counts"]["embedded"] == 40
    assert len(server.batches) == 2


def test_a_cancelled_batch_is_an_error_that_keeps_what_was_finished(
    server: OpenAIBatchServer, batch_settings: Changed
) -> None:
    server.ends, server.finished_texts = ["cancelled"], 10
    with pytest.raises(DeniedServiceError, match=r"was cancelled after 10 of 40 texts, which are kept"):
        ingest(batch_settings())

    again = ingest(batch_settings())

    assert (again["counts"]["cached"], again["counts"]["embedded"]) == (10, 30)
    assert {server.embedded[line(number)] for number in range(DOCUMENTS)} == {1}


def test_requests_that_failed_for_a_reason_that_may_pass_are_submitted_again(
    server: OpenAIBatchServer, batch_settings: Changed
) -> None:
    server.overloaded = {line(3), line(4)}

    report = ingest(batch_settings())

    assert (report["counts"]["embedded"], report["counts"]["quarantined"]) == (40, 0)
    assert [batch.counts["completed"] for batch in server.batches] == [38, 2]


def test_a_full_queue_is_waited_for_and_the_file_is_not_sent_again(
    server: OpenAIBatchServer, batch_settings: Changed
) -> None:
    server.queue_is_full = 2

    report = ingest(batch_settings())

    assert report["counts"]["embedded"] == 40
    assert [batch.status for batch in server.batches] == ["failed", "failed", "completed"]
    assert len({batch.input_file_id for batch in server.batches}) == 1


def test_a_batch_that_is_refused_as_a_whole_is_told_and_not_waited_for(
    server: OpenAIBatchServer, batch_settings: Changed
) -> None:
    server.max_texts = 39

    with pytest.raises(DeniedServiceError, match=r"refused the batch batch_0000: The batch holds 40 texts"):
        ingest(batch_settings())


def test_a_wrong_key_is_told_without_showing_it(server: OpenAIBatchServer, batch_settings: Changed) -> None:
    settings = batch_settings()
    plan = plan_run(settings, "run")
    server.key = "another"

    with pytest.raises(
        DeniedServiceError, match=r"answered 401: the key was refused. Correct OPENAI_API_KEY"
    ) as raised:
        batched_shard(settings, plan.shards[0], {})

    assert KEY not in str(raised.value)
    assert raised.value.__context__ is None
    assert server.batches == []


@pytest.mark.parametrize(
    "fault", [{"dropped": True}, {"status": 500}, {"status": 429, "headers": {"retry-after": "0"}}]
)
def test_a_creation_that_seemed_to_fail_is_not_done_twice(
    server: OpenAIBatchServer, batch_settings: Changed, fault: dict[str, Any]
) -> None:
    server.faults.add("POST /v1/batches", times=1, **fault)

    assert ingest(batch_settings())["counts"]["embedded"] == 40

    assert len(server.batches) == 1


def test_a_process_killed_between_creation_and_answer_is_resumed_without_submitting_twice(
    server: OpenAIBatchServer, batch_settings: Changed, tmp_path: Path
) -> None:
    settings = batch_settings()
    server.held = True
    server.silent.clear()  # the batch is created, its id never heard
    code = "import sys; from squadron.settings.schema import Settings; from squadron.runs.whole_run import ingest; "
    code += "ingest(Settings.model_validate_json(sys.argv[1]))"
    process = subprocess.Popen([sys.executable, "-c", code, settings.model_dump_json()], cwd=tmp_path)
    assert server.created.wait(300)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    server.silent.set()
    server.held = False
    write_corpus(tmp_path, DOCUMENTS + 2)  # and the corpus has grown since

    report = ingest(settings)

    assert report["counts"]["embedded"] == 42
    assert [batch.counts["completed"] for batch in server.batches] == [40, 2]
    assert {server.embedded[line(number)] for number in range(DOCUMENTS + 2)} == {1}


def test_a_lost_memory_is_found_in_the_services_list(server: OpenAIBatchServer, batch_settings: Changed) -> None:
    settings = batch_settings()
    plan = plan_run(settings, "run")
    server.page = 1
    batched_shard(settings, plan.shards[0], {})
    for file in Path(str(settings.cache.path), "batches").rglob("*.json"):
        file.unlink()

    batched_shard(settings, plan.shards[0], {})

    assert len(server.batches) == 1


def test_a_shard_that_failed_after_its_batch_asks_no_refused_text_again(
    server: OpenAIBatchServer, batch_settings: Changed
) -> None:
    settings = batch_settings()
    server.refused.add(line(7))
    plan = plan_run(settings, "run")
    batches: dict[str, str] = {}
    while not (first := batched_shard(settings, plan.shards[0], batches)).ready:
        pass

    again = batched_shard(settings, plan.shards[0], {})  # as after a crash

    assert again == first
    assert [key for key, _ in again.reasons] == [text_digest(line(7)).hex()]
    assert len(server.batches) == 1


def test_what_the_cache_lost_after_the_batch_is_embedded_at_once(
    server: OpenAIBatchServer, batch_settings: Changed
) -> None:
    settings = batch_settings()
    server.refused.add(line(7))
    plan = plan_run(settings, "run")
    batched = batched_shards(settings, plan.shards)[0]
    server.refused = {line(8)}
    for file in Path(str(settings.cache.path)).rglob("*.parquet"):
        file.unlink()

    ingested = ingest_shard(settings, plan, plan.shards[0], batched=batched)

    assert (ingested.written, ingested.quarantined) == (38, 2)
    assert sync_texts(server) == {line(number) for number in range(DOCUMENTS) if number != 7}


def test_a_plan_says_that_its_cost_is_that_of_batches(batch_settings: Changed) -> None:
    settings = batch_settings()
    values = {key: value_of(settings, key) for key, _ in leaves()}
    given = [f"{key}={'' if value is None else value}" for key, value in values.items() if value not in ("", ())]

    done = CliRunner().invoke(app, ["plan", *(word for pair in given for word in ("--set", pair))])

    assert done.exit_code == 0, done.output
    tokens = plan_run(settings, "dry", dry_run=True).estimated_tokens
    assert f"{tokens} tokens to embed, {tokens * 0.01 / 1e6:.4g} USD in batches, within a day" in done.output


def test_batches_keep_to_the_limits_of_the_service() -> None:
    sizes = {str(number): 10 for number in range(7)} | {"large": 95}

    assert list(parts(sizes, most_texts=3)) == [["0", "1", "2"], ["3", "4", "5"], ["6", "large"]]
    assert list(parts(sizes, most_bytes=100)) == [["0", "1", "2", "3", "4", "5", "6"], ["large"]]


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"cache.path": None}, r"mode is 'batch', whose vectors wait in the cache: set cache.path"),
        ({"embedding.openai.azure_deployment": "ours"}, r"Azure's batches are not OpenAI's"),
    ],
)
def test_settings_that_batches_cannot_do_with_are_refused(
    batch_settings: Changed, changes: dict[str, Any], says: str
) -> None:
    with pytest.raises(SettingsError, match=says):
        batch_settings(**changes)


def test_the_mode_is_no_part_of_the_vector_space(batch_settings: Changed) -> None:
    spaces = [vector_space(batch_settings(**{"embedding.openai.mode": mode})) for mode in ("sync", "batch")]

    assert spaces[0] == spaces[1]


def job_tokens(settings: Settings) -> int:
    """Tokens of the corpus, as the tokenizer counts them."""
    return plan_run(settings, "dry", dry_run=True).tokens


class _DearServer(OpenAIBatchServer):
    """Bills twice the tokens of its texts."""

    def answer(self, path: str, body: dict[str, Any]) -> tuple[dict[str, Any], dict[str, str]]:
        found, headers = super().answer(path, body)
        found["usage"] = {name: 2 * tokens for name, tokens in found["usage"].items()}
        return found, headers


@pytest.mark.parametrize("limit", ["budget.max_tokens", "budget.max_cost_usd"])
def test_a_service_that_bills_more_than_estimated_is_stopped_before_the_job_that_would_exceed_the_budget(
    batch_settings: Changed, limit: str
) -> None:
    with _DearServer(key=KEY) as dear:
        changes = {"ingest.shard_passages": 10, "embedding.openai.base_url": dear.url + "/v1"}
        allowed = int(1.3 * job_tokens(batch_settings(**changes)))
        budget = {limit: allowed if limit == "budget.max_tokens" else allowed * 0.01 / 1e6}

        with pytest.raises(GuardError, match=rf"{limit} allows .* billed 2\.00 times the estimate.*not submitted"):
            ingest(batch_settings(**changes, **budget))
        stopped = len(dear.batches)
        again = ingest(batch_settings(**changes))

        assert stopped == 2  # of 4: both together are billed what was estimated for all
        assert again["counts"]["written"] == 40
        assert again["counts"]["embedded"] + again["counts"]["cached"] == 40
        assert {dear.embedded[line(number)] for number in range(DOCUMENTS)} == {1}
        assert len(dear.batches) == 4


def test_with_a_budget_that_is_kept_all_batches_but_the_first_are_under_way_together(
    server: OpenAIBatchServer, batch_settings: Changed
) -> None:
    shards = {"ingest.shard_passages": 10}
    estimate = job_tokens(batch_settings(**shards))

    report = ingest(batch_settings(**shards, **{"budget.max_tokens": estimate}))

    requests = [seen.line for seen in server.seen]
    looks = [number for number, request in enumerate(requests) if request.startswith("GET /v1/batches/")]
    creations = [number for number, request in enumerate(requests) if request == "POST /v1/batches"]
    assert report["counts"]["written"] == 40
    assert report["billed_tokens"] == estimate
    assert creations[0] < looks[0] < creations[1]
    assert not [look for look in looks if creations[1] < look < creations[3]]


def test_what_a_batch_was_billed_counts_once_however_often_it_is_told(
    server: OpenAIBatchServer, batch_settings: Changed
) -> None:
    settings = batch_settings(**{"budget.max_tokens": 100_000})
    plan = plan_run(settings, "run")
    (batched,) = batched_shards(settings, plan.shards, plan).values()

    first = ingest_shard(settings, plan, plan.shards[0], None, batched)
    second = ingest_shard(settings, plan, plan.shards[0], None, batched)

    assert first.billed_tokens == second.billed_tokens == plan.tokens


def test_a_job_of_a_run_that_died_is_counted_though_a_document_has_left_since(
    server: OpenAIBatchServer, batch_settings: Changed, tmp_path: Path
) -> None:
    settings = batch_settings()
    plan = plan_run(settings, "dead")
    batched_shard(settings, plan.shards[0], {})  # submitted; then the process dies
    lines = [json.dumps({"id": str(number), "text": line(number)}) + "\n" for number in range(1, DOCUMENTS)]
    (tmp_path / "corpus.jsonl").write_text("".join(lines))

    report = ingest(settings)

    assert len(server.batches) == 1
    assert report["billed_tokens"] == plan.tokens
    assert not list((tmp_path / "cache" / "batches").rglob("*.json"))
    write_corpus(tmp_path, DOCUMENTS)  # the document comes back: it is paid for
    again = ingest(settings)
    assert (again["counts"]["cached"], again["billed_tokens"], len(server.batches)) == (1, 0, 1)


def test_a_job_of_two_shards_is_counted_once_and_is_there_for_both(
    server: OpenAIBatchServer, batch_settings: Changed, tmp_path: Path
) -> None:
    plan = plan_run(batch_settings(), "dead")
    batched_shard(batch_settings(), plan.shards[0], {})  # one shard then

    report = ingest(batch_settings(**{"ingest.shard_passages": 15}))  # three now

    assert len(server.batches) == 1
    assert report["billed_tokens"] == plan.tokens
    assert (report["counts"]["written"], sync_texts(server)) == (DOCUMENTS, set())
    assert not list((tmp_path / "cache" / "batches").rglob("*.json"))
