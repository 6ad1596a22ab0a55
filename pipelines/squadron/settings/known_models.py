"""Models: what is known of the embedding services' models: widths, limits, prices.

`package_data/models.toml` comes with the package; `config/models.toml`, if there is one, adds models and replaces them.
"""

import tomllib
from datetime import date
from functools import lru_cache
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, NonNegativeFloat, PositiveInt, TypeAdapter, ValidationError

from squadron.errors import SettingsError
from squadron.settings.home import PACKAGE_DATA, home
from squadron.settings.schema import Settings

FREE = ("hashing", "sentence_transformers")
"""Services that run on our own machines: their tokens cost nothing."""


class Model(BaseModel):
    """What is known of one model."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    dimension: PositiveInt
    """Width of its vectors."""
    shorter: Literal["any"] | tuple[PositiveInt, ...] = ()
    """Smaller widths that it can be asked for."""
    max_tokens: PositiveInt
    """Tokens that it reads of one text."""
    price_per_million_tokens: NonNegativeFloat | None = None
    """In US dollars; None: not listed."""
    batch_price_per_million_tokens: NonNegativeFloat | None = None
    """The same in a batch that may take a day."""
    priced_on: date | None = None
    source: str | None = None


def known_models() -> dict[str, dict[str, Model]]:
    """Service -> model -> what is known of it."""
    models = _read(PACKAGE_DATA / "models.toml")
    own = home() / "config" / "models.toml"
    if not own.is_file():
        return models
    added = _read(own)
    return {service: models.get(service, {}) | added.get(service, {}) for service in models | added}


def known_model(service: str, model: str) -> Model | None:
    """What is known of a service's model; None when `config/models.toml` does not list it."""
    return known_models().get(service, {}).get(model)


def price_per_million(service: str, model: str) -> float | None:
    """US dollars for a million tokens, 0 for models on our own machines; None when the price is not listed."""
    if service in FREE:
        return 0.0
    listed = known_model(service, model)
    return listed.price_per_million_tokens if listed else None


def price_of(settings: Settings) -> float | None:
    """US dollars for a million tokens of the configured model; None when the price is not listed."""
    service = settings.embedding.service
    chosen = getattr(settings.embedding, service)
    if getattr(chosen, "mode", "sync") == "batch":
        listed = known_model(service, chosen.model)
        return listed.batch_price_per_million_tokens if listed else None
    return price_per_million(service, getattr(chosen, "model", service))


def dimension_of(service: str, model: str, dimensions: int | None) -> int:
    """Width of the vectors: what the setting `dimensions` asks for, or the model's own.

    Raises SettingsError when the model is not listed and the setting is not given, and when the model cannot
    give that width.
    """
    listed, setting = known_model(service, model), f"embedding.{service}.dimensions"
    if listed is None:
        if dimensions is None:
            raise SettingsError(_unknown(service, model, setting, "the width of its vectors"))
        return dimensions
    if dimensions in (None, listed.dimension):
        return listed.dimension
    if listed.shorter == "any":
        if dimensions < listed.dimension:
            return dimensions
        choices = f"at most {listed.dimension}"
    elif dimensions in listed.shorter:
        return dimensions
    else:
        choices = "one of " + ", ".join(map(str, sorted({*listed.shorter, listed.dimension})))
    raise SettingsError(f"{setting} is {dimensions}, {model} gives {choices}: change it, or unset it")


def width_to_ask_for(service: str, model: str, dimension: int) -> int | None:
    """The width that a request has to name; None where it is the model's own, or the model is not known: a model
    that cannot be shortened may refuse the parameter.
    """
    listed = known_model(service, model)
    return dimension if listed and dimension != listed.dimension else None


def max_tokens_of(service: str, model: str, max_tokens: int | None) -> int:
    """Tokens that the model reads of one text: the setting `max_tokens` if it is given, else what is listed."""
    listed, setting = known_model(service, model), f"embedding.{service}.max_tokens"
    if listed is None:
        if max_tokens is None:
            raise SettingsError(_unknown(service, model, setting, "how many tokens it reads of one text"))
        return max_tokens
    if max_tokens and max_tokens > listed.max_tokens:
        raise SettingsError(f"{setting} is {max_tokens}, {model} reads {listed.max_tokens}: lower it, or unset it")
    return max_tokens or listed.max_tokens


def _unknown(service: str, model: str, setting: str, what: str) -> str:
    listed = ", ".join(known_models().get(service, {})) or "none"
    return (
        f"{service} model {model!r} is not in config/models.toml, which lists {listed}: "
        f"set {setting} to {what}, or describe the model there"
    )


@lru_cache(maxsize=4)
def _read(path: Path) -> dict[str, dict[str, Model]]:
    try:
        return _FILE.validate_python(tomllib.loads(path.read_text(encoding="utf-8")))
    except OSError as error:
        raise SettingsError(f"{path} cannot be read: {error.strerror}. Set SQUADRON_HOME to the project") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise SettingsError(f"config/{path.name} is not valid TOML: {error}") from None
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        key = ".".join(map(str, first["loc"]))
        raise SettingsError(f"config/{path.name}: {key} = {first['input']!r}: {first['msg']}") from None


_FILE = TypeAdapter(dict[str, dict[str, Model]])
