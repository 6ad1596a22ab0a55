"""What a service refuses is left out and told; what would cost too much is refused before anything is sent."""

from collections.abc import Callable, Iterator

import pytest

from pipelines.catalog import generations
from pipelines.errors import GuardError
from pipelines.runs import ingest
from pipelines.settings import Settings
from tests.wire.openai_server import OpenAIServer

KEY = "test-0123456789abcdef"
Changed = Callable[..., Settings]


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[OpenAIServer]:
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    with OpenAIServer(key=KEY) as running:
        yield running


@pytest.fixture
def openai_settings(server: OpenAIServer, settings_with: Changed, tmp_path) -> Changed:
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
        "embedding.openai.base_url": server.url + "/v1",
        "cache.path": "cache",
    }
    return lambda **changes: settings_with(**values | changes)


@pytest.mark.parametrize("cache", ["cache", None])
def test_a_refused_text_is_left_out_and_tried_again_by_the_next_run(
    server: OpenAIServer, openai_settings: Changed, caplog: pytest.LogCaptureFixture, cache: str | None
) -> None:
    settings = openai_settings(**{"cache.path": cache})
    server.refused.add("Line 7 of the corpus.")

    first = ingest(settings)
    server.refused.clear()
    second = ingest(settings)

    assert (first["counts"]["embedded"], first["counts"]["written"], first["counts"]["quarantined"]) == (39, 39, 1)
    assert "of document 7 is in quarantine" in caplog.text
    assert (second["counts"]["unchanged"], second["counts"]["written"], second["counts"]["quarantined"]) == (39, 1, 0)
    assert server.embedded.total() == 40  # nothing was paid for twice


def test_too_many_refused_texts_fail_the_run_and_nothing_goes_live(
    server: OpenAIServer, openai_settings: Changed
) -> None:
    server.refused.update(f"Line {number} of the corpus." for number in range(5))

    with pytest.raises(GuardError, match=r"refused 5 of 40 passages: guard\.max_quarantined_fraction allows 5\.0%"):
        ingest(openai_settings())

    assert [row["live"] for row in generations(openai_settings())] == [False]


def test_a_budget_of_tokens_is_kept_before_the_first_request(server: OpenAIServer, openai_settings: Changed) -> None:
    with pytest.raises(GuardError, match=r"budget\.max_tokens allows 100"):
        ingest(openai_settings(**{"budget.max_tokens": 100}))

    assert server.seen == []
    assert generations(openai_settings()) == []


def test_a_budget_of_dollars_is_kept_before_the_first_request(server: OpenAIServer, openai_settings: Changed) -> None:
    with pytest.raises(GuardError, match=r"USD, budget\.max_cost_usd allows 0\.0000: nothing was sent"):
        ingest(openai_settings(**{"budget.max_cost_usd": 0}))

    assert server.seen == []


def test_a_budget_without_a_known_price_is_refused(server: OpenAIServer, openai_settings: Changed) -> None:
    unknown = {"embedding.openai.model": "own", "embedding.openai.dimensions": 64, "embedding.openai.max_tokens": 512}

    with pytest.raises(GuardError, match=r"no price for the model"):
        ingest(openai_settings(**unknown, **{"budget.max_cost_usd": 1}))

    assert server.seen == []


def test_what_is_cached_costs_nothing(server: OpenAIServer, openai_settings: Changed) -> None:
    first = ingest(openai_settings())

    moved = ingest(openai_settings(**{"store.lancedb.uri": "another", "budget.max_tokens": 0}))

    assert first["cost"] == pytest.approx(first["tokens"] * 0.02 / 1e6)
    assert (moved["cost"], moved["counts"]["cached"]) == (0, 40)
