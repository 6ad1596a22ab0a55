"""What config/models.toml says of the services' models is complete and dated, and what it lacks is asked for."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from squadron.errors import SettingsError
from squadron.settings.known_models import (
    Model,
    dimension_of,
    known_model,
    known_models,
    max_tokens_of,
    price_per_million,
)

LISTED = [
    pytest.param(service, name, model, id=name)
    for service, all_of_it in known_models().items()
    for name, model in all_of_it.items()
]


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A project of its own, without a config/models.toml yet."""
    (tmp_path / "config").mkdir()
    monkeypatch.setenv("SQUADRON_HOME", str(tmp_path))
    yield tmp_path


@pytest.mark.parametrize(("service", "name", "model"), LISTED)
def test_every_price_has_a_date_and_a_source(service: str, name: str, model: Model) -> None:
    assert price_per_million(service, name) == model.price_per_million_tokens
    assert model.price_per_million_tokens
    assert model.priced_on
    assert model.source
    assert model.source.startswith("https://")


@pytest.mark.parametrize(("service", "name", "model"), LISTED)
def test_every_model_has_its_own_width_and_limit(service: str, name: str, model: Model) -> None:
    assert dimension_of(service, name, None) == dimension_of(service, name, model.dimension) == model.dimension
    assert max_tokens_of(service, name, None) == model.max_tokens


@pytest.mark.parametrize("service", ["sentence_transformers", "hashing"])
def test_models_on_our_own_machines_cost_nothing(service: str) -> None:
    assert price_per_million(service, "any") == 0


def test_the_price_of_an_unknown_model_is_not_guessed() -> None:
    assert price_per_million("openai", "a-model-of-our-own") is None


def test_a_model_can_be_described_in_the_project(home: Path) -> None:
    (home / "config" / "models.toml").write_text('[openai."ours"]\ndimension = 48\nmax_tokens = 512\n')
    assert dimension_of("openai", "ours", None) == 48
    assert max_tokens_of("openai", "ours", 100) == 100
    assert price_per_million("openai", "ours") is None


def test_a_project_without_the_file_has_the_one_that_comes_along(home: Path) -> None:
    assert known_model("openai", "text-embedding-3-small")


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ("[openai", "config/models.toml is not valid TOML"),
        ('[openai."ours"]\ndimension = 0\nmax_tokens = 5', "openai.ours.dimension = 0"),
        ('[openai."ours"]\ndimensions = 8', "openai.ours"),
    ],
    ids=["no TOML", "no width", "unknown key"],
)
def test_a_mistake_in_the_file_is_named(home: Path, content: str, says: str) -> None:
    (home / "config" / "models.toml").write_text(content)
    with pytest.raises(SettingsError, match=says):
        known_models()
