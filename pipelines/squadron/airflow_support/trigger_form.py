"""The trigger form: every setting of a run as a field, with its type, choices and default."""

import types
from typing import Any, Literal, Union, get_args, get_origin

from annotated_types import Ge, Gt, Le
from pydantic.fields import FieldInfo

from squadron.settings.registry import REGISTRIES
from squadron.settings.schema import Settings, leaves, marked, value_of

TITLES = {
    "source": "Corpus",
    "passages": "Passages",
    "embedding": "Embedding",
    "store": "Vector store",
    "ingest": "Work",
    "cache": "Embedding cache",
    "evaluation": "Evaluation",
    "gate": "Quality gate",
    "guard": "Guards",
    "quarantine": "Quarantine",
    "budget": "Budget",
    "retention": "Retention",
}
# These decide which DAG runs, and when: a run cannot change them.
_NOT_OF_A_RUN = ("collection", "schedule", "deadline_hours")


def form_fields(defaults: Settings) -> dict[str, dict[str, Any]]:
    """Dotted key -> JSON schema of a field; all default to null, which inherits.

    `defaults`: the settings that a field inherits from if no Variable sets it, for the description.
    """
    registries = marked("registry")
    fields = {}
    for key, field in leaves():
        if key in _NOT_OF_A_RUN:
            continue
        choices = [*REGISTRIES[registries[key]]] if key in registries else None
        top, *backend, _ = key.split(".")
        inherited = value_of(defaults, key)
        shown = "none" if inherited in (None, ()) else inherited
        fields[key] = {
            "title": key,
            "section": ": ".join([TITLES[top], *(backend if top in ("embedding", "store") else ())]),
            "description": f"{field.description} Empty: inherit (config: {shown}).",
            **_schema(field, choices),
        }
        if "enum" in fields[key]:
            fields[key]["values_display"] = {"null": f"inherit (config: {shown})"}
    return fields


def _schema(field: FieldInfo, choices: list[str] | None) -> dict[str, Any]:
    kind, constraints = _unwrapped(field.annotation, field.metadata)
    if get_origin(kind) is Literal:
        choices = list(get_args(kind))
    if choices:
        return {"type": ["null", "string"], "enum": [None, *choices]}
    if get_origin(kind) is tuple:
        return {"type": ["null", "array"], "items": {"type": "string"}}
    name = {str: "string", int: "integer", float: "number", bool: "boolean"}[kind]
    schema: dict[str, Any] = {"type": ["null", name]}
    for constraint in constraints:
        if isinstance(constraint, Gt):
            schema["exclusiveMinimum"] = constraint.gt
        elif isinstance(constraint, Ge):
            schema["minimum"] = constraint.ge
        elif isinstance(constraint, Le):
            schema["maximum"] = constraint.le
    return schema


def _unwrapped(kind: Any, constraints: list[Any]) -> tuple[Any, list[Any]]:
    """The type without `| None` and `Annotated`, and its constraints."""
    found = list(constraints)
    while True:
        if get_origin(kind) in (Union, types.UnionType):
            (kind,) = (part for part in get_args(kind) if part is not type(None))
        elif hasattr(kind, "__metadata__"):
            for extra in kind.__metadata__:
                found += extra.metadata if isinstance(extra, FieldInfo) else [extra]
            kind = get_args(kind)[0]
        else:
            return kind, found
