"""Assignments: settings as they are written on a command line."""

from pathlib import Path
from typing import Any

import pytest

from squadron.errors import SettingsError
from squadron.settings.assignments import assignments
from squadron.settings.layers import Layer, resolve


def test_assignments_are_keys_and_values() -> None:
    assert assignments(["source.limit=5", "collection=a=b", "schedule=", 'source.columns.metadata=["author"]']) == {
        "source.limit": "5",
        "collection": "a=b",
        "schedule": None,
        "source.columns.metadata": ["author"],
    }


@pytest.mark.parametrize(
    ("text", "values"),
    [
        ("source.limit=5 store.name=lancedb", {"source.limit": "5", "store.name": "lancedb"}),
        ("  source.limit=5\n\tcollection=a ", {"source.limit": "5", "collection": "a"}),
        ("source.path=my tickets.csv source.limit=5", {"source.path": "my tickets.csv", "source.limit": "5"}),
        ("source.path=a b=c.csv", {"source.path": "a b=c.csv"}),
        ("vector_store=lancedb embedding_service=hashing", {"vector_store": "lancedb", "embedding_service": "hashing"}),
        (
            'source.columns.metadata=["a", "b ] source.limit=5", "\\" c"] source.split=x',
            {"source.columns.metadata": ["a", "b ] source.limit=5", '" c'], "source.split": "x"},
        ),
        ("source.limt=5 source.split=x", {"source.limt": "5", "source.split": "x"}),
    ],
)
def test_one_text_holds_several_pairs(text: str, values: dict[str, Any]) -> None:
    assert assignments([text]) == values


@pytest.mark.parametrize("value", ["author,year", "author, year", '["author","year"]', '["author", "year"]'])
def test_a_list_has_commas_or_is_json(value: str, tmp_path: Path) -> None:
    values = assignments([f"source.columns.metadata={value}"])

    assert resolve([Layer("test", values, tmp_path)]).settings.source.columns.metadata == ("author", "year")


def test_a_list_of_one_needs_no_comma_and_a_text_keeps_its_commas() -> None:
    assert assignments(["source.columns.metadata=author", "source.path=a,b.csv"]) == {
        "source.columns.metadata": ["author"],
        "source.path": "a,b.csv",
    }


@pytest.mark.parametrize("pair", ["source.limit", "=5", "", 'source.columns.metadata=["author"'])
def test_a_broken_assignment_is_refused(pair: str) -> None:
    with pytest.raises(SettingsError):
        assignments([pair])
