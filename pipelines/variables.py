"""Variables: what Airflow Variables say about settings, whoever reads them: a task of the DAG, or the page."""

import json
from collections.abc import Callable

from pipelines.errors import SettingsError
from pipelines.resolution import ALIASES, Layer
from pipelines.settings import home

VARIABLE = "vector_ingest"


def variable_layers(text_of: Callable[[str], str | None]) -> list[Layer]:
    """Variable `vector_ingest` (JSON of settings), then the two that swap backends.

    `text_of` gives the text of a Variable, or None where there is none.
    """
    try:
        values = json.loads(text_of(VARIABLE) or "null")
    except ValueError as error:
        raise SettingsError(f"Airflow Variable {VARIABLE!r} is not JSON: {error}") from error
    if values is not None and not isinstance(values, dict):
        raise SettingsError(f"Airflow Variable {VARIABLE!r} is {values!r}: wanted a JSON object of settings")
    layers = [Layer(f"Variable {VARIABLE}", values or {}, home())]
    for name in ALIASES:
        if value := text_of(name):
            layers.append(Layer(f"Variable {name}", {name: value.strip()}, home()))
    return layers
