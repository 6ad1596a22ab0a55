"""What a service refuses is left out and told; what would cost too much is refused before anything is sent."""

import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from squadron.corpus import quarantine
from squadron.dataflow.driver import shared_graph
from squadron.embeddings.remote.failures import DeniedServiceError
from squadron.errors import GateError, GuardError
from squadron.generations.catalog import generations
from squadron.runs.evaluate import evaluate
from squadron.runs.explain import explain
from squadron.runs.finish import finish
from squadron.runs.ingest_shard import ingest_shard
from squadron.runs.plan import plan_run
from squadron.runs.promote import promote
from squadron.runs.report import run_report
from squadron.runs.verify import verify
from squadron.runs.whole_run import ingest
from squadron.settings.schema import Settings
from squadron.terminal import tables as terminal
from tests.whole_runs import live, stored_rows
from tests.wire.openai_server import OpenAIServer

Changed = Callable[..., Settings]


@pytest.fixture
def openai_settings(openai: OpenAIServer, settings_with: Changed, tmp_path) -> Changed:
    """Settings of 40 documents of a line each, embedded by the server. Takes changes by dotted key."""
    lines = [f'{{"id": "{number}", "text": "Line {number} of the corpus."}}\n' for number in range(40)]
    (tmp_path / "corpus.jsonl").write_text("".join(lines))
    values = {
        "source.name": "files",
        "source.path": "corpus.jsonl",
        "source.columns.text": "text",
        "source.columns.document_id": "id",
        "source.columns.question_id": None,
        "passages.template": "plain_v1",
        "embedding.service": "openai",
        "embedding.openai.base_url": openai.url + "/v1",
        "cache.path": "cache",
    }
    return lambda **changes: settings_with(**values | changes)


@pytest.mark.parametrize("cache", ["cache", None])
def test_a_refused_text_is_left_out_and_tried_again_by_the_next_run(
    openai: OpenAIServer, openai_settings: Changed, caplog: pytest.LogCaptureFixture, cache: str | None
) -> None:
    settings = openai_settings(**{"cache.path": cache, "evaluation.max_questions": 0})
    openai.refused.add("Line 7 of the corpus.")

    first = ingest(settings)
    openai.refused.clear()
    second = ingest(settings)

    assert (first["counts"]["embedded"], first["counts"]["written"], first["counts"]["quarantined"]) == (39, 39, 1)
    assert "of document 7 is in quarantine" in caplog.text
    assert (second["counts"]["unchanged"], second["counts"]["written"], second["counts"]["quarantined"]) == (39, 1, 0)
    assert {openai.embedded[f"Line {number} of the corpus."] for number in range(40)} == {1}  # nothing is paid twice


def test_the_version_before_stays_until_the_service_takes_the_new_one(
    openai: OpenAIServer, openai_settings: Changed, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    settings = openai_settings(**{"evaluation.max_questions": 0, "guard.max_quarantined_fraction": 0.1})
    ingest(settings)
    corpus = tmp_path / "corpus.jsonl"
    lines = corpus.read_text().splitlines()[:-1]  # the last document leaves
    lines[7] = lines[7].replace("Line 7", "News of 7")
    lines[8] = lines[8].replace("Line 8", "News of 8")
    corpus.write_text("\n".join(lines))
    openai.refused.add("News of 7 of the corpus.")

    def texts() -> dict[str, str]:
        rows = stored_rows(settings, live(settings) or "")
        return {row["document_id"]: row["text"][:6] for row in rows.values()}

    for _ in range(2):  # and the next night again
        report = ingest(settings)
        assert (report["held_back"], report["counts"]["quarantined"], len(texts())) == (1, 1, 39)
        assert (texts()["7"], texts()["8"]) == ("Line 7", "News o")
        assert "1 rows of documents stay, whose new versions the embedding service refused" in caplog.text
        assert explain(settings, "7")["state"] == "held"
        for repair in (False, True):
            checked = verify(settings, repair=repair)
            assert checked["sound"]  # a repair cannot do better, and the quarantine says so
            names = ("missing", "refused", "extra", "held_back", "deleted", "left")
            assert [checked["counts"][name] for name in names] == [1, 1, 0, 1, 0, int(repair)]
    (refused,) = [each["document_id"] for each in quarantine.listed(settings)]
    assert refused == "7"
    corpus.write_text("\n".join(lines).replace("News of 7", "Better news of 7"))
    assert explain(settings, "7")["state"] == "stale"  # the quarantine is about another version
    corpus.write_text("\n".join(lines))
    openai.refused.clear()
    report = ingest(settings)

    assert (report["held_back"], report["counts"]["written"], report["counts"]["deleted"]) == (0, 1, 1)
    assert (len(texts()), texts()["7"]) == (39, "News o")
    assert verify(settings)["sound"]


def test_of_a_version_that_is_not_whole_the_one_before_stays_beside_its_passages(
    openai: OpenAIServer, openai_settings: Changed, tmp_path: Path
) -> None:
    changes = {"evaluation.max_questions": 0, "passages.max_tokens": 32, "guard.max_quarantined_fraction": 0.1}
    settings, elsewhere = openai_settings(**changes), openai_settings(**changes, **{"store.lancedb.uri": "elsewhere"})
    ingest(settings)
    corpus, before = tmp_path / "corpus.jsonl", {*stored_rows(settings, live(settings) or "")}
    sentences = " ".join(f"This is sentence number {number}." for number in range(25))
    corpus.write_text(corpus.read_text().replace("Line 7 of the corpus.", sentences))
    ingest(elsewhere)
    rows = stored_rows(elsewhere, live(elsewhere) or "").values()
    passages = [row["text"] for row in rows if row["document_id"] == "7"]
    openai.refused.add(passages[-1])

    report = ingest(openai_settings(**changes, **{"cache.path": "another"}))
    during = {*stored_rows(settings, live(settings) or "")}
    openai.refused.clear()
    ingest(settings)

    assert report["counts"]["quarantined"] == report["held_back"] == 1
    assert during >= before
    assert len(during - before) == len(passages) - 1 > 1
    after = stored_rows(settings, live(settings) or "")
    assert sum(row["document_id"] == "7" for row in after.values()) == len(passages)
    assert len(before - {*after}) == 1


def test_what_the_service_refuses_is_left_out_of_the_evaluation(
    openai: OpenAIServer, openai_settings: Changed, caplog: pytest.LogCaptureFixture
) -> None:
    openai.refused.add("Line 7 of the corpus.")

    report = ingest(openai_settings())

    assert report["metrics"]["recall_at_10"] > 0.5
    assert "1 questions are left out of the evaluation" in caplog.text


def test_too_many_refused_texts_fail_the_run_and_nothing_goes_live(
    openai: OpenAIServer, openai_settings: Changed
) -> None:
    openai.refused.update(f"Line {number} of the corpus." for number in range(5))

    with pytest.raises(GuardError, match=r"refused 5 of 40 passages: guard\.max_quarantined_fraction allows 5\.0%"):
        ingest(openai_settings())

    assert [row["live"] for row in generations(openai_settings())] == [False]


def test_a_budget_of_tokens_is_kept_before_the_first_request(openai: OpenAIServer, openai_settings: Changed) -> None:
    with pytest.raises(GuardError, match=r"budget\.max_tokens allows 100"):
        ingest(openai_settings(**{"budget.max_tokens": 100}))

    assert openai.seen == []
    assert generations(openai_settings()) == []


def test_a_budget_of_dollars_is_kept_before_the_first_request(openai: OpenAIServer, openai_settings: Changed) -> None:
    with pytest.raises(GuardError, match=r"USD, budget\.max_cost_usd allows 0\.0000: they were not sent"):
        ingest(openai_settings(**{"budget.max_cost_usd": 0}))

    assert openai.seen == []


def test_a_budget_without_a_known_price_is_refused(openai: OpenAIServer, openai_settings: Changed) -> None:
    unknown = {"embedding.openai.model": "own", "embedding.openai.dimensions": 64, "embedding.openai.max_tokens": 512}

    with pytest.raises(GuardError, match=r"no price for the model"):
        ingest(openai_settings(**unknown, **{"budget.max_cost_usd": 1}))

    assert openai.seen == []


def test_what_is_cached_costs_nothing(openai: OpenAIServer, openai_settings: Changed) -> None:
    first = ingest(openai_settings())

    moved = ingest(openai_settings(**{"store.lancedb.uri": "another", "budget.max_tokens": 0}))

    assert first["cost"] == pytest.approx(first["tokens"] * 0.02 / 1e6)
    assert (moved["cost"], moved["counts"]["cached"]) == (0, 40)


class _DearServer(OpenAIServer):
    """Bills twice the tokens of its texts."""

    def answer(self, path: str, body: dict[str, Any]) -> tuple[dict[str, Any], dict[str, str]]:
        found, headers = super().answer(path, body)
        found["usage"] = {name: 2 * tokens for name, tokens in found["usage"].items()}
        return found, headers


@pytest.mark.parametrize("shard_passages", [100, 10], ids=["one shard", "four shards"])
@pytest.mark.parametrize("limit", ["budget.max_tokens", "budget.max_cost_usd"])
def test_a_run_that_costs_more_than_estimated_stops_and_the_next_one_sends_only_the_rest(
    openai_settings: Changed, monkeypatch: pytest.MonkeyPatch, shard_passages: int, limit: str
) -> None:
    lines = {f"Line {number} of the corpus." for number in range(40)}
    with _DearServer() as dear:
        changes = {
            "embedding.openai.base_url": dear.url + "/v1",
            "ingest.batch_passages": 5,
            "ingest.shard_passages": shard_passages,
            "evaluation.max_questions": 0,
        }
        tokens = plan_run(openai_settings(**changes), "dry", dry_run=True).estimated_tokens
        dollars = tokens * 0.02 / 1e6
        allowed = {"budget.max_tokens": tokens * 1.1 // 1, "budget.max_cost_usd": dollars * 1.1}[limit]

        with pytest.raises(GuardError, match=rf"the run has spent .* {limit} allows .* it was stopped"):
            ingest(openai_settings(**changes, **{limit: allowed}))
        sent = lines & set(dear.embedded)
        report = ingest(openai_settings(**changes, **{limit: allowed * 2}))

        assert len(sent) == 25  # 1.1 of 2 times the estimate are reached by 22 of 40 lines, in batches of five
        assert {dear.embedded[line] for line in lines} == {1}
        counts = report["counts"]
        assert (counts["unchanged"], counts["embedded"], counts["written"]) == (25, 15, 15)
        assert report["promoted"]
        assert report["billed_tokens"] == 2 * report["estimated_tokens"]
        assert report["billed_cost"] == pytest.approx(2 * report["cost"])


def test_what_was_paid_for_before_the_stop_is_in_the_cache_too(openai_settings: Changed) -> None:
    with _DearServer() as dear:
        changes = {
            "embedding.openai.base_url": dear.url + "/v1",
            "ingest.batch_passages": 10,
            "evaluation.max_questions": 0,
        }
        tokens = plan_run(openai_settings(**changes), "dry", dry_run=True).estimated_tokens
        with pytest.raises(GuardError, match="it was stopped"):
            ingest(openai_settings(**changes, **{"budget.max_tokens": tokens}))

        moved = ingest(openai_settings(**changes, **{"store.lancedb.uri": "another"}))

    assert (moved["counts"]["cached"], moved["counts"]["embedded"]) == (30, 10)


def test_what_a_failed_shard_was_billed_is_not_forgotten_when_it_is_tried_again(
    openai: OpenAIServer, openai_settings: Changed
) -> None:
    changes = {"ingest.batch_passages": 10, "embedding.openai.concurrency": 1, "embedding.openai.batch_texts": 5}
    settings = openai_settings(**changes, **{"budget.max_tokens": 1_000_000, "cache.path": None})
    plan = plan_run(settings, "run")
    before = openai.billed_tokens
    openai.faults.add("POST", every=3, times=1, status=404)

    with pytest.raises(DeniedServiceError):
        ingest_shard(settings, plan, plan.shards[0])
    shared_graph.cache_clear()  # as another process
    done = ingest_shard(settings, plan, plan.shards[0])

    assert done.billed_tokens == openai.billed_tokens - before > plan.estimated_tokens


def test_the_report_counts_which_endpoint_answered(openai: OpenAIServer, openai_settings: Changed) -> None:
    with OpenAIServer(key=openai.key) as failing:
        settings = openai_settings(
            **{
                "embedding.openai.base_url": failing.url + "/v1",
                "embedding.openai.fallback_base_urls": [openai.url + "/v1"],
                "evaluation.max_questions": 0,
            }
        )
        plan = plan_run(settings, "run")
        failing.faults.add("POST", every=2, times=1, status=500)
        ingested = ingest_shard(settings, plan, plan.shards[0])
        finished, evaluation = finish(settings, plan), evaluate(settings, plan)
        promotion = promote(settings, plan, evaluation)
        report = run_report(plan, ingested, finished, evaluation, promotion)
    hosts = [url.removeprefix("http://") for url in (failing.url, openai.url)]

    assert set(report["endpoints"]) == set(hosts)
    assert report["endpoints"][hosts[0]]["answered"] > 1
    assert report["endpoints"][hosts[0]]["failed"] == 1
    assert report["endpoints"][hosts[1]] == {"answered": 1, "failed": 0}
    console = Console(record=True, width=300, file=io.StringIO())
    terminal.show_report(report, console)
    assert f"billed {report['billed_tokens']:,} tokens" in console.export_text()


def test_a_refused_passage_is_listed_with_its_reason_until_it_is_stored(
    openai: OpenAIServer, openai_settings: Changed, tmp_path: Path
) -> None:
    settings = openai_settings(**{"evaluation.max_questions": 0, "ingest.shard_passages": 10})
    openai.refused.update({"Line 7 of the corpus.", "Line 31 of the corpus."})
    ingest(settings)

    first = {entry["document_id"]: entry for entry in quarantine.listed(settings)}
    openai.refused.remove("Line 31 of the corpus.")
    ingest(settings)
    (second,) = quarantine.listed(settings)
    corpus = tmp_path / "corpus.jsonl"
    corpus.write_text(corpus.read_text().replace("Line 7 of", "Line seven of"))
    ingest(settings)

    assert set(first) == {"7", "31"}
    assert first["7"]["text"] == "Line 7 of the corpus."
    assert first["7"]["service"] == "openai"
    assert first["7"]["reason"].startswith("answered 400")
    assert (second["document_id"], second["first_seen"]) == ("7", first["7"]["first_seen"])
    assert second["last_seen"] > first["7"]["last_seen"]
    assert second["run_id"] != first["7"]["run_id"]
    assert quarantine.listed(settings) == []


def test_too_many_refused_texts_are_listed_though_the_run_failed(
    openai: OpenAIServer, openai_settings: Changed
) -> None:
    openai.refused.update(f"Line {number} of the corpus." for number in range(5))

    with pytest.raises(GuardError, match=r"squadron quarantine` lists them"):
        ingest(openai_settings())

    assert {entry["document_id"] for entry in quarantine.listed(openai_settings())} == {"0", "1", "2", "3", "4"}


def test_a_new_generation_that_would_lack_a_document_of_the_live_one_does_not_take_its_place(
    openai: OpenAIServer, openai_settings: Changed
) -> None:
    before = ingest(openai_settings())
    openai.refused.add("Line 7 of the corpus.")
    narrow = openai_settings(**{"embedding.openai.dimensions": 128, "cache.path": None})

    for _ in range(2):
        with pytest.raises(
            GuardError, match=r"would lack 1 documents of the live .* for the embedding service refused"
        ):
            ingest(narrow)

    assert live(narrow) == before["live"]
    openai.refused.clear()
    assert ingest(narrow)["promoted"]


def test_a_refused_passage_that_is_there_already_is_not_missed(
    openai: OpenAIServer, openai_settings: Changed, tmp_path: Path
) -> None:
    changes = {"evaluation.max_questions": 0, "passages.max_tokens": 32, "cache.path": None}
    corpus, sentences = tmp_path / "corpus.jsonl", " ".join(f"This is sentence number {n}." for n in range(25))
    corpus.write_text(corpus.read_text().replace("Line 7 of the corpus.", sentences))
    elsewhere = openai_settings(**changes, **{"store.lancedb.uri": "elsewhere"})
    ingest(elsewhere)
    stored = stored_rows(elsewhere, live(elsewhere) or "").values()
    texts = [row["text"] for row in sorted(stored, key=lambda row: row["ordinal"]) if row["document_id"] == "7"]
    settings = openai_settings(**changes)
    openai.refused.add(texts[-1])
    ingest(settings)
    openai.refused.add(texts[0])  # which was stored by the run before

    report = ingest(settings)

    assert report["counts"]["quarantined"] == 2
    assert report["rows"] == report["counts"]["passages"] - 1


def test_a_generation_that_nothing_can_be_asked_of_is_not_let_pass(
    openai: OpenAIServer, openai_settings: Changed, tmp_path: Path
) -> None:
    corpus = tmp_path / "corpus.jsonl"
    lines = [f'{{"id": "{n}", "text": "Line {n} of the corpus.", "question": "What of {n}?"}}' for n in range(40)]
    corpus.write_text("\n".join(lines))
    openai.refused.update(f"What of {n}?" for n in range(1, 40))

    with pytest.raises(GateError, match=r"1 of the 40 questions could be asked, for the embedding service refused"):
        ingest(openai_settings())

    openai.refused.difference_update(f"What of {n}?" for n in range(1, 30))
    report = ingest(openai_settings())
    assert (report["questions"], report["promoted"]) == (30, True)
