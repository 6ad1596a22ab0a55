"""The canary: a service that changes its model under the same name is noticed before vectors of two are mixed."""

from collections.abc import Callable
from pathlib import Path

import pytest

from squadron.dataflow.driver import shared_graph
from squadron.errors import GuardError
from squadron.generations import model_canary as canary
from squadron.generations.catalog import Generations, generations
from squadron.runs.whole_run import ingest
from squadron.settings.schema import Settings
from tests.whole_runs import numbered, write_corpus
from tests.wire.openai_server import OpenAIServer

Changed = Callable[..., Settings]


@pytest.fixture
def served(openai: OpenAIServer, settings_with: Changed, tmp_path: Path) -> Changed:
    """Settings of twelve documents, embedded by the server. Takes changes by dotted key."""
    corpus = write_corpus(tmp_path / "corpus.jsonl", numbered(*range(12)))
    service = {"embedding.service": "openai", "embedding.openai.base_url": openai.url + "/v1", "cache.path": "cache"}
    return lambda **changes: settings_with(**corpus | service | changes)


def test_another_model_under_the_same_name_turns_the_run_red_before_anything_is_embedded(
    openai: OpenAIServer, served: Changed, tmp_path: Path
) -> None:
    first = ingest(served())
    openai.renewed = "a new model"
    write_corpus(tmp_path / "corpus.jsonl", numbered(*range(13)))
    sent = len(openai.seen)

    with pytest.raises(GuardError, match=r"openai text-embedding-3-small is not the model.*embedding\.variant"):
        ingest(served())

    assert {text for seen in openai.seen[sent:] for text in seen.texts} == set(canary.TEXTS)
    (kept,) = generations(served())
    assert (kept["generation"], kept["rows"]) == (first["generation"], 12)


def test_a_run_without_changes_notices_it_too(openai: OpenAIServer, served: Changed) -> None:
    ingest(served())
    openai.renewed = "a new model"
    with pytest.raises(GuardError, match="Nothing was embedded"):
        ingest(served())


def test_a_variant_begins_a_generation_of_the_new_model_and_takes_no_vector_from_the_cache(
    openai: OpenAIServer, served: Changed
) -> None:
    first = ingest(served())
    openai.renewed = "a new model"

    second = ingest(served(**{"embedding.variant": "after the change"}))

    assert second["generation"] != first["generation"]
    assert second["live"] == second["generation"]
    assert second["counts"]["embedded"] == 12


def test_the_same_model_passes_with_the_little_noise_that_services_have(openai: OpenAIServer, served: Changed) -> None:
    settings = served()
    ingest(settings)
    graph = shared_graph(settings)
    (record,) = [record for _, record in Generations.of(settings).items()]
    vectors = canary.probe_vectors(graph)
    noisy = vectors + 1e-3

    assert canary.check_model(settings, vectors, record) == pytest.approx(1, abs=1e-5)
    assert canary.check_model(settings, noisy, record) > 0.999


def test_the_local_model_is_checked_when_there_is_something_to_embed(settings_with: Changed, tmp_path: Path) -> None:
    settings = settings_with(**write_corpus(tmp_path / "corpus.jsonl", numbered(*range(5))))
    ingest(settings)
    catalog = Generations.of(settings)
    graph = shared_graph(settings)
    stranger = canary.remembered(-canary.probe_vectors(graph))
    catalog.change(catalog.live or "", canary=stranger)

    assert ingest(settings)["counts"]["embedded"] == 0
    write_corpus(tmp_path / "corpus.jsonl", numbered(*range(6)))
    with pytest.raises(GuardError, match=r"cosine -1\.0000"):
        ingest(settings)


def test_a_generation_that_remembers_nothing_yet_remembers_from_its_next_change_on(
    settings_with: Changed, tmp_path: Path
) -> None:
    settings = settings_with(**write_corpus(tmp_path / "corpus.jsonl", numbered(*range(5))))
    ingest(settings)
    catalog = Generations.of(settings)
    record = catalog.get(catalog.live)
    catalog.change(catalog.live or "", canary=None)
    write_corpus(tmp_path / "corpus.jsonl", numbered(*range(6)))

    ingest(settings)

    assert generations(settings)[0]["probes"] == record.canary
