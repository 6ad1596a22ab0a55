"""Variables: what Airflow Variables say about settings, whoever reads them: a task of the DAG, or the page."""

import json
from collections.abc import Callable
from typing import Any

from squadron.errors import SettingsError
from squadron.settings.assignments import ALIASES
from squadron.settings.home import home
from squadron.settings.layers import DEFAULT_COLLECTION, Layer, collections
from squadron.settings.registry import unknown

VARIABLE = "vector_ingest"


def variable_layers(text_of: Callable[[str], str | None], collection: str | None = None) -> list[Layer]:
    """Variable `vector_ingest` (JSON of settings), then the two that swap backends, then what `vector_ingest` says
    under `collections` of this one collection.

    `text_of` gives the text of a Variable, or None where there is none.
    """
    try:
        values = json.loads(text_of(VARIABLE) or "{}")
    except ValueError as error:
        raise SettingsError(f"Airflow Variable {VARIABLE!r} is not JSON: {error}") from error
    own = _of_collections(values) if isinstance(values, dict) else None
    if own is None:
        raise SettingsError(f"Airflow Variable {VARIABLE!r} is {values!r}: wanted a JSON object of settings")
    layers = [Layer(f"Variable {VARIABLE}", values, home())]
    for name in ALIASES:
        if value := text_of(name):
            layers.append(Layer(f"Variable {name}", {name: value.strip()}, home()))
    named = collection or values.get("collection") or DEFAULT_COLLECTION
    return [*layers, Layer(f"Variable {VARIABLE}, collections.{named}", own.get(named, {}), home())]


def _of_collections(values: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """Taken out of the Variable's values: settings of single collections, by name."""
    own = values.pop("collections", {})
    if not isinstance(own, dict) or not all(isinstance(settings, dict) for settings in own.values()):
        raise SettingsError(
            f'Airflow Variable {VARIABLE!r}: collections is {own!r}, wanted {{"faq": {{"source": {{...}}}}}}'
        )
    for name in own:
        if name not in (known := collections()):
            raise SettingsError(
                f"Airflow Variable {VARIABLE!r}: collections.{name}: {unknown('a collection', name, known)}. "
                f"A collection has a file, config/{name}.toml"
            )
    return own
