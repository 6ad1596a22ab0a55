"""Resolution: layers of settings become one Settings, each value with the layer it came from."""

import json
import tomllib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from squadron.errors import SettingsError
from squadron.settings.allowed_paths import refuse_foreign, refuse_secrets
from squadron.settings.assignments import ALIASES
from squadron.settings.home import home
from squadron.settings.registry import REGISTRIES, unknown
from squadron.settings.schema import Settings, leaves, marked, value_of

DEFAULT_COLLECTION: str = Settings.model_fields["collection"].default
_NO_COLLECTION = "models"
"""config/models.toml is about models."""


@dataclass(frozen=True)
class Layer:
    """Settings from one place, e.g. `config/squad.toml`; later layers win over earlier ones."""

    name: str
    values: Mapping[str, Any]
    base: Path
    """What the relative paths of this layer start from."""
    trusted: bool = True
    """Whether it may name any path and address (`places`)."""


@dataclass(frozen=True)
class Resolved:
    """Settings, and for each dotted key the name of the layer that set it."""

    settings: Settings
    origins: Mapping[str, str]

    def all_origins(self) -> Iterable[tuple[str, str]]:
        """(dotted key, name of the layer that set it) of every setting."""
        return ((key, self.origins.get(key, "default")) for key, _ in leaves())

    def lines(self) -> Iterable[str]:
        """One line per setting, for a log: key, value, origin."""
        for key, origin in self.all_origins():
            yield f"{key} = {json.dumps(value_of(self.settings, key))}  ({origin})"


def resolve(layers: Sequence[Layer] = ()) -> Resolved:
    """The settings of a run: defaults < `config/<collection>.toml` < the given layers, in their order.

    Raises SettingsError, naming key, value and layer, when a key is unknown or a value is not valid.
    """
    given = [(layer, _flat(layer)) for layer in layers]
    collection = next((flat["collection"] for _, flat in reversed(given) if "collection" in flat), None)
    stored = _config_layer(collection or DEFAULT_COLLECTION)
    values: dict[str, Any] = {}
    origins: dict[str, str] = {}
    for layer, flat in [(stored, _flat(stored)), *given] if stored else given:
        for key, value in flat.items():
            placed = _absolute(value, layer.base) if key in _LOCATIONS else value
            if key in _PLACES:
                refuse_secrets(key, placed, layer.name)
            if not layer.trusted and key in _PLACES:
                refuse_foreign(key, placed, values.get(key, _default(key)), layer.name)
            values[key] = placed
            origins[key] = layer.name
    for key in _LOCATIONS - values.keys():
        values[key] = _default(key)
    try:
        settings = Settings.model_validate(_nested(values))
    except ValidationError as error:
        raise SettingsError(_explanation(error, origins)) from None
    _check_backends(settings, origins)
    return Resolved(settings, origins)


def collections() -> list[str]:
    """The default collection, and the others that have a file in config/."""
    files = {path.stem for path in (home() / "config").glob("*.toml")} - {_NO_COLLECTION, DEFAULT_COLLECTION}
    return [DEFAULT_COLLECTION, *sorted(files)]


def _config_layer(collection: object) -> Layer | None:
    if collection == _NO_COLLECTION:
        raise SettingsError("a collection cannot be called 'models': config/models.toml is about models. Rename it")
    path = home() / "config" / f"{collection}.toml"
    if not path.is_file():
        return None
    try:
        values = tomllib.loads(path.read_text(encoding="utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise SettingsError(f"config/{path.name} is not valid TOML: {error}") from None
    except OSError as error:
        raise SettingsError(f"config/{path.name} cannot be read: {error.strerror or error}") from error
    named = values.setdefault("collection", collection)
    if named != collection:
        raise SettingsError(f"config/{path.name} says collection = {named!r}: a collection's file bears its name")
    return Layer(f"config/{path.name}", values, home())


def _flat(layer: Layer) -> dict[str, Any]:
    """The layer by dotted keys, nested tables and aliases resolved; unknown keys refused."""
    flat: dict[str, Any] = {}

    def walk(values: Mapping[str, Any], prefix: str) -> None:
        for name, value in values.items():
            key = ALIASES.get(prefix + name, prefix + name)
            if isinstance(value, Mapping) and key in _SECTIONS:
                walk(value, key + ".")
            elif key in _KEYS:
                flat[key] = value
            elif key in _SECTIONS:
                raise SettingsError(f"{layer.name}: {key} = {value!r}: wanted a table of settings")
            else:
                near = key.rpartition(".")[0] + "."
                section = [known for known in _KEYS if known.startswith(near)]
                problem = unknown("a setting", key, section or [*_TOP, *ALIASES], nearest_of=_KEYS)
                raise SettingsError(f"{layer.name}: {problem}")

    walk(layer.values, "")
    return flat


def _nested(flat: Mapping[str, Any]) -> dict[str, Any]:
    nested: dict[str, Any] = {}
    for key, value in flat.items():
        *sections, name = key.split(".")
        table = nested
        for section in sections:
            table = table.setdefault(section, {})
        table[name] = value
    return nested


def _default(key: str) -> Any:
    default = dict(leaves())[key].default
    return _absolute(default, home()) if key in _LOCATIONS else default


def _absolute(location: Any, base: Path) -> Any:
    if not isinstance(location, str) or not location or "://" in location:
        return location
    return str(base / Path(location).expanduser())


def _explanation(error: ValidationError, origins: Mapping[str, str]) -> str:
    sentences = []
    for problem in error.errors(include_url=False):
        if problem["type"] == "value_error":  # of a validator in settings.py, which says it all
            sentences.append(problem["msg"].removeprefix("Value error, "))
            continue
        key = ".".join(str(part) for part in problem["loc"] if part in _PARTS)
        wanted = problem["msg"].removeprefix("Input should be ").partition(", unable to ")[0]
        wanted = wanted.replace("String should match pattern", "text that matches")
        sentences.append(f"{key} = {problem['input']!r} (from {origins.get(key, 'default')}): wanted {wanted}")
    return "; ".join(sentences)


def _check_backends(settings: Settings, origins: Mapping[str, str]) -> None:
    for key, registry in marked("registry").items():
        if (found := value_of(settings, key)) not in REGISTRIES[registry]:
            problem = unknown(f"one of the {registry}", found, REGISTRIES[registry])
            raise SettingsError(f"{key} (from {origins.get(key, 'default')}): {problem}")


_KEYS = [key for key, _ in leaves()]
_SECTIONS = {key.rpartition(".")[0] for key in _KEYS} | {key.partition(".")[0] for key in _KEYS if "." in key}
_TOP = {key if "." not in key else key.partition(".")[0] + ".…" for key in _KEYS}
_PARTS = {part for key in _KEYS for part in key.split(".")}
_LOCATIONS = marked("location").keys()
_PLACES = {*_LOCATIONS, *marked("address")}
