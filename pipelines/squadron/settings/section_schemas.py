"""The settings by section, each as pydantic's JSON schema: the trigger form and the page of settings are made of it."""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache

from pydantic.json_schema import JsonSchemaValue

from squadron.settings.schema import Settings


@dataclass(frozen=True)
class SectionSchema:
    """The settings that share a prefix; subsections are sections of their own."""

    prefix: str
    """Empty: the settings of the top level."""
    description: str
    settings: dict[str, JsonSchemaValue]
    """Dotted key -> schema."""


@cache
def section_schemas() -> tuple[SectionSchema, ...]:
    """All sections in the order of their declaration, each before its subsections."""
    schema = Settings.model_json_schema()
    return tuple(_sections(schema, schema["$defs"], ""))


def _sections(
    section: JsonSchemaValue, definitions: dict[str, JsonSchemaValue], prefix: str
) -> Iterator[SectionSchema]:
    fields = {f"{prefix}.{name}".lstrip("."): field for name, field in section["properties"].items()}
    settings = {key: field for key, field in fields.items() if "$ref" not in field}
    yield SectionSchema(prefix, section["description"], settings)
    for key, field in fields.items():
        if "$ref" in field:
            yield from _sections(definitions[field["$ref"].removeprefix("#/$defs/")], definitions, key)
