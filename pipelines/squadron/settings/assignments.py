"""Assignments: settings as they are written on a command line, `source.limit=500`."""

import json
import re
from collections.abc import Iterable
from typing import Any, get_origin

from squadron.errors import SettingsError
from squadron.settings.schema import leaves

# What the Airflow Variables of the same names, and run params, mean.
ALIASES = {"embedding_service": "embedding.service", "vector_store": "store.name"}

_FIELDS = dict(leaves())
_FIRST_PARTS = sorted({key.partition(".")[0] for key in (*_FIELDS, *ALIASES)})
_NAME = rf"(?:{'|'.join(_FIRST_PARTS)})(?:\.\w+)*="
_JSON_LIST = r'\[(?:"(?:\\.|[^"\\])*"|[^"\]])*\]'
_PIECES = re.compile(rf"(?P<next_name>\s+(?={_NAME}))|{_JSON_LIST}|.", re.DOTALL)


def assignments(pairs: Iterable[str], option: str = "--set") -> dict[str, Any]:
    """`["source.limit=5 store.name=lancedb"]` as `{"source.limit": "5", "store.name": "lancedb"}`.

    One text may hold several pairs: a value ends where a space and the name of the next setting follow, outside of a
    JSON list. A list is `a,b` or `["a","b"]`; an empty value is null. Raises SettingsError for what is no KEY=VALUE.
    """
    values: dict[str, Any] = {}
    for pair in (single for text in pairs for single in _single_pairs(text)):
        key, equals, value = pair.partition("=")
        if not equals or not key.strip():
            raise SettingsError(f"{option} {pair!r} is not KEY=VALUE: write for example source.limit=500")
        values[key.strip()] = _parsed(key.strip(), value)
    return values


def _single_pairs(text: str) -> list[str]:
    pairs = [""]
    for piece in _PIECES.finditer(text.strip()):
        if piece["next_name"]:
            pairs.append("")
        else:
            pairs[-1] += piece[0]
    return pairs


def _parsed(key: str, value: str) -> Any:
    if value in ("", "null"):
        return None
    if value.startswith("["):
        try:
            return json.loads(value)
        except ValueError as error:
            raise SettingsError(f"{key}: {value!r} is not a JSON list: {error}") from None
    return [item.strip() for item in value.split(",")] if _is_list(key) else value


def _is_list(key: str) -> bool:
    field = _FIELDS.get(ALIASES.get(key, key))
    return field is not None and get_origin(field.annotation) is tuple
