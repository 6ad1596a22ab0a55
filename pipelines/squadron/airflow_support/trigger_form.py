"""The trigger form: every setting of a run as a field, with its type, choices and default."""

from pydantic.json_schema import JsonSchemaValue

from squadron.settings.registry import REGISTRIES
from squadron.settings.schema import Settings, value_of
from squadron.settings.section_schemas import section_schemas

SECTIONS = {
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
_SECTIONS_WITH_BACKENDS = ("embedding", "store")
# These decide which DAG runs, and when: a run cannot change them.
_SETTINGS_OF_THE_DAG = ("collection", "schedule", "deadline_hours")
# What the form adds itself, and marks that mean something to Squadron alone.
_LEFT_OUT = ("title", "default", "description", "registry", "location", "address")


def form_fields(defaults: Settings) -> dict[str, JsonSchemaValue]:
    """Dotted key -> JSON schema of a field. The default of every field is null, which inherits.

    `defaults`: the settings that a field inherits from if no Variable sets it. The description shows them.
    """
    return {
        key: _field(key, setting, value_of(defaults, key))
        for section in section_schemas()
        for key, setting in section.settings.items()
        if key not in _SETTINGS_OF_THE_DAG
    }


def _field(key: str, setting: JsonSchemaValue, inherited: object) -> JsonSchemaValue:
    top, *backend, _ = key.split(".")
    inherited_text = "none" if inherited in (None, ()) else inherited
    field = {
        "title": key,
        "section": ": ".join([SECTIONS[top], *(backend if top in _SECTIONS_WITH_BACKENDS else ())]),
        "description": f"{setting['description']} Empty: inherit (config: {inherited_text}).",
        **_nullable(setting),
    }
    if "enum" in field:
        field["values_display"] = {"null": f"inherit (config: {inherited_text})"}
    return field


def _nullable(setting: JsonSchemaValue) -> JsonSchemaValue:
    """The type and the limits of a setting, null among them. `anyOf` is flattened: Airflow's form reads `type`."""
    (value,) = (schema for schema in setting.get("anyOf", [setting]) if schema["type"] != "null")
    field = {name: part for name, part in value.items() if name not in _LEFT_OUT}
    field["type"] = ["null", value["type"]]
    choices = REGISTRIES[setting["registry"]] if "registry" in setting else value.get("enum")
    if choices:
        field["enum"] = [None, *choices]
    return field
