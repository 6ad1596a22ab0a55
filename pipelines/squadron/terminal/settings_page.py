"""Every setting explained: key, type, default, description. `config --explain` and docs/settings.md print the same."""

import json
from collections.abc import Iterable
from dataclasses import dataclass

from pydantic.json_schema import JsonSchemaValue

from squadron.errors import SettingsError
from squadron.settings.registry import REGISTRIES, unknown
from squadron.settings.section_schemas import SectionSchema, section_schemas

_HEAD = """\
<!-- `make docs` writes this file: edit the descriptions in pipelines/squadron/settings/, not here. -->

# Settings

Every setting, as the code describes it. `squadron config --explain` prints the same in a terminal, `squadron config
--explain store.lancedb` one section of it. [Concepts](concepts.md#settings-come-in-layers) says in which files and
Variables a setting can stand, and which of them wins.

A key is written as in the tables: in TOML `limit = 500` below `[source]`, on the command line `--set source.limit=500`,
in a run's conf `{"source.limit": 500}`. A relative path is relative to the place that names it: to the project's folder
in `config/`, to the working directory on the command line. No setting is a secret: see
[Security](security.md#credentials).
"""


@dataclass(frozen=True)
class Explanation:
    """One setting, in words."""

    key: str
    type: str
    default: str
    """As JSON."""
    description: str

    def lines(self) -> tuple[str, ...]:
        """For a terminal."""
        return f"{self.key} = {self.default}", f"    {self.type.replace('`', '')}", f"    {self.description}"

    def row(self) -> str:
        """For a table in Markdown."""
        return table_row(f"`{self.key}`", self.type, f"`{self.default}`", self.description.replace("<", "&lt;"))


def explanations(prefix: str = "") -> list[Explanation]:
    """The settings whose key is `prefix` or begins with it and a dot; all of them without one.

    Raises SettingsError, naming the nearest section or setting, when there is none.
    """
    settings = [setting for section in section_schemas() for setting in _explained(section)]
    name = prefix.rstrip(".")
    matching = [setting for setting in settings if not name or f"{setting.key}.".startswith(f"{name}.")]
    if not matching:
        sections = [section.prefix for section in section_schemas() if section.prefix]
        keys = [setting.key for setting in settings]
        raise SettingsError(unknown("a setting, or a section of settings", prefix, sections, nearest_of=keys))
    return matching


def settings_page() -> str:
    """docs/settings.md."""
    return "\n".join([_HEAD, *(_section_lines(section) for section in section_schemas())])


def table_row(*cells: str) -> str:
    """A row of a table in Markdown."""
    return f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in cells)} |"


def _section_lines(section: SectionSchema) -> str:
    title = f"`{section.prefix}`" if section.prefix else "Top level"
    head = "| key | type | default | meaning |\n|---|---|---|---|"
    rows = "\n".join(setting.row() for setting in _explained(section))
    return f"## {title}\n\n{section.description}\n\n{head}\n{rows}\n"


def _explained(section: SectionSchema) -> list[Explanation]:
    return [
        Explanation(key, _type(field), json.dumps(field["default"], ensure_ascii=False), field["description"])
        for key, field in section.settings.items()
    ]


def _type(field: JsonSchemaValue) -> str:
    """A setting's JSON schema in words: `integer, 16 or more; or null`."""
    if "registry" in field:
        return _choices(REGISTRIES[field["registry"]])
    alternatives = field.get("anyOf", [field])
    words = [_words(alternative) for alternative in alternatives if alternative.get("type") != "null"]
    return " or ".join(words) + ("; or null" if len(words) < len(alternatives) else "")


def _words(schema: JsonSchemaValue) -> str:
    if "enum" in schema:
        return _choices(schema["enum"])
    match schema["type"]:
        case "array":
            return f"list of {_words(schema['items'])}"
        case "integer" | "number" as name:
            return name + _bounds(schema)
        case "string":
            return f"text that matches `{schema['pattern']}`" if "pattern" in schema else "text"
        case "boolean":
            return "true or false"
    return str(schema["type"])


def _bounds(schema: JsonSchemaValue) -> str:
    lowest, highest, above = (schema.get(name) for name in ("minimum", "maximum", "exclusiveMinimum"))
    if above is not None:
        return f" above {above}" + (f", at most {highest}" if highest is not None else "")
    if lowest is not None and highest is not None:
        return f", {lowest} to {highest}"
    return f", {lowest} or more" if lowest is not None else ""


def _choices(names: Iterable[str]) -> str:
    return "one of " + ", ".join(f"`{name}`" for name in names)
