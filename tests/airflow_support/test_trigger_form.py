"""The trigger form: a field for each setting of a run, in the words of JSON schema that Airflow's form reads."""

import pytest

from squadron.airflow_support.trigger_form import form_fields
from squadron.settings.registry import REGISTRIES
from squadron.settings.schema import Settings, leaves, marked

FIELDS = form_fields(Settings())


def test_each_setting_of_a_run_is_a_field_in_the_order_of_the_settings() -> None:
    settings_of_the_dag = {"collection", "schedule", "deadline_hours"}

    assert list(FIELDS) == [key for key, _ in leaves() if key not in settings_of_the_dag]


def test_each_field_may_be_null_which_inherits() -> None:
    for key, field in FIELDS.items():
        assert field["type"][0] == "null" and len(field["type"]) == 2, key
        assert "default" not in field and field.get("enum", [None])[0] is None, key


@pytest.mark.parametrize(
    ("key", "schema"),
    [
        ("source.limit", {"type": ["null", "integer"], "exclusiveMinimum": 0}),
        ("passages.max_tokens", {"type": ["null", "integer"], "minimum": 16}),
        ("ingest.batch_passages", {"type": ["null", "integer"], "minimum": 1, "maximum": 65_536}),
        ("gate.max_drop", {"type": ["null", "number"], "minimum": 0, "maximum": 1}),
        ("gate.approval", {"type": ["null", "boolean"]}),
        ("store.pgvector.schema_name", {"type": ["null", "string"], "pattern": "^[a-z][a-z0-9_]{0,47}$"}),
        ("embedding.openai.fallback_base_urls", {"type": ["null", "array"], "items": {"type": "string"}}),
    ],
)
def test_a_field_has_the_type_and_the_limits_of_its_setting(key: str, schema: dict) -> None:
    words = ("title", "section", "description")

    assert {name: part for name, part in FIELDS[key].items() if name not in words} == schema


def test_a_field_with_choices_shows_what_null_inherits() -> None:
    field = form_fields(Settings.model_validate({"passages": {"template": "plain_v1"}}))["passages.template"]

    assert field["enum"] == [None, "title_text_v1", "plain_v1"]
    assert field["values_display"] == {"null": "inherit (config: plain_v1)"}


def test_the_choices_of_a_backend_are_the_registered_ones() -> None:
    for key, registry in marked("registry").items():
        assert FIELDS[key]["enum"] == [None, *REGISTRIES[registry]]


def test_a_description_shows_the_setting_that_a_run_inherits() -> None:
    description = form_fields(Settings.model_validate({"source": {"limit": 7}}))["source.limit"]["description"]

    assert description.startswith("Stop after this many documents. ")
    assert description.endswith(" Empty: inherit (config: 7).")


def test_fields_of_a_backend_have_a_section_of_their_own() -> None:
    assert FIELDS["store.lancedb.uri"]["section"] == "Vector store: lancedb"
    assert FIELDS["source.columns.text"]["section"] == "Corpus"
