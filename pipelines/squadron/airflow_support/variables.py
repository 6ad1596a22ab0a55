"""Variables: the settings in Airflow Variables, as a task of the DAG and the page read them."""

import json
from collections.abc import Callable

from pydantic import JsonValue

from squadron.errors import SettingsError
from squadron.settings.assignments import ALIASES
from squadron.settings.home import home
from squadron.settings.layers import DEFAULT_COLLECTION, Layer, collections
from squadron.settings.registry import unknown

VARIABLE = "vector_ingest"


def variable_layers(text_of: Callable[[str], str | None], collection: str | None = None) -> list[Layer]:
    """The layers of settings that Airflow Variables hold; a later one wins.

    Variable `vector_ingest` (a JSON object of settings), then the two that swap backends, then what `vector_ingest`
    holds under `collections` for this one collection. `text_of` gives the text of a Variable, or None where it is not
    set. Raises SettingsError when `vector_ingest` is not such an object, or names a collection that does not exist.
    """
    try:
        values = json.loads(text_of(VARIABLE) or "{}")
    except ValueError as error:
        raise SettingsError(f"Airflow Variable {VARIABLE!r} is not JSON: {error}") from error
    if not isinstance(values, dict):
        raise SettingsError(f"Airflow Variable {VARIABLE!r} is {values!r}: wanted a JSON object of settings")
    for_all = {key: value for key, value in values.items() if key != "collections"}
    by_collection = _settings_by_collection(values.get("collections", {}))
    name = collection or for_all.get("collection") or DEFAULT_COLLECTION
    layers = [Layer(f"Variable {VARIABLE}", for_all, home())]
    for alias in ALIASES:
        if value := text_of(alias):
            layers.append(Layer(f"Variable {alias}", {alias: value.strip()}, home()))
    return [*layers, Layer(f"Variable {VARIABLE}, collections.{name}", by_collection.get(name, {}), home())]


def _settings_by_collection(settings: JsonValue) -> dict[str, dict[str, JsonValue]]:
    if not isinstance(settings, dict) or not all(isinstance(values, dict) for values in settings.values()):
        raise SettingsError(
            f'Airflow Variable {VARIABLE!r}: collections is {settings!r}, wanted {{"faq": {{"source": {{...}}}}}}'
        )
    for name in settings:
        if name not in collections():
            raise SettingsError(
                f"Airflow Variable {VARIABLE!r}: collections.{name}: "
                f"{unknown('a collection', name, collections())}. A collection has a file, config/{name}.toml"
            )
    return {name: values for name, values in settings.items() if isinstance(values, dict)}
