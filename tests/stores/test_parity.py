"""Parity: every registered store offers the same nodes, and every embedding service goes with every store."""

from inspect import Parameter, getmembers, isfunction, signature
from types import FunctionType
from typing import Any, get_type_hints

import numpy as np
import pyarrow as pa
import pytest

from squadron.dataflow.digests import DigestSet
from squadron.dataflow.driver import build_driver, inputs
from squadron.settings.registry import EMBEDDINGS, STORES, load
from squadron.settings.schema import Settings
from squadron.stores.contract import Store

CONTRACT = {
    node: list(signature(function).parameters)[1:] for node, function in getmembers(Store, isfunction) if node[0] != "_"
}
"""The nodes of a store and what they are made of."""
SIDE_EFFECTS = {
    *("generation_table", "rows_written", "rows_deleted", "index_built", "restored"),
    *("record_stored", "promoted", "dropped"),
}
"""The nodes that change what a store holds."""
OWN_TYPES = ("client", "generation_table", "earlier_table", "store_settings")
"""Parameters and nodes whose types are the store's own."""
GIVEN = {
    "generation": "squad_0000b10e",
    "expected_live": "squad_0000b10e",
    "record_text": "{}",
    "expected_revision": 1,
    "query_texts": ["a question"],
    "top_k": 10,
    "wanted_ids": pa.array([], pa.string()),
    "earlier_version": 1,
    "seen": np.zeros(1, bool),
    "earlier_changes": DigestSet(),
    "repeated_identities": np.empty(0, np.uint64),
    "document_limit": None,
    "rows": pa.record_batch({"text": ["a text"]}),
}
"""What steps give beside the settings."""


@pytest.mark.parametrize("name", STORES)
def test_a_store_has_the_nodes_of_the_contract_and_no_others(name: str) -> None:
    assert sorted(_nodes(name)) == sorted(CONTRACT)


@pytest.mark.parametrize("name", STORES)
def test_the_nodes_of_a_store_are_made_of_what_the_contract_says(name: str) -> None:
    found = {node: list(signature(function).parameters.values()) for node, function in _nodes(name).items()}
    assert {node: [parameter.name for parameter in parameters] for node, parameters in found.items()} == CONTRACT
    everything = [parameter for parameters in found.values() for parameter in parameters]
    assert {parameter.kind for parameter in everything} == {Parameter.POSITIONAL_OR_KEYWORD}
    assert {parameter.default for parameter in everything} == {Parameter.empty}


@pytest.mark.parametrize("name", STORES)
def test_the_nodes_of_a_store_have_the_types_of_lancedb(name: str) -> None:
    wanted = {node: _shared_types(node, function) for node, function in _nodes("lancedb").items()}
    assert {node: _shared_types(node, function) for node, function in _nodes(name).items()} == wanted


@pytest.mark.parametrize("name", STORES)
def test_a_store_uses_its_own_types_in_the_same_sense_everywhere(name: str) -> None:
    hints = {node: get_type_hints(function) for node, function in _nodes(name).items()}
    for own in OWN_TYPES:
        assert len({types[own] for types in hints.values() if own in types}) <= 1
    assert hints["client"]["return"] == hints["generation_table"]["client"]
    assert (
        hints["generation_table"]["return"]
        == hints["rows_written"]["generation_table"]
        == hints["earlier_table"]["return"]
    )
    assert hints["client"]["store_settings"] is type(getattr(Settings().store, name))


@pytest.mark.parametrize("name", STORES)
def test_every_node_of_a_store_says_what_it_returns(name: str) -> None:
    assert [node for node, function in _nodes(name).items() if not function.__doc__] == []


@pytest.mark.parametrize("name", STORES)
def test_the_nodes_that_change_a_store_and_no_others_are_tagged_as_side_effects(name: str) -> None:
    settings = Settings.model_validate({"embedding": {"service": "hashing"}, "store": {"name": name}})
    variables = build_driver(settings).list_available_variables()
    assert {node.name for node in variables if node.tags.get("side_effect") == "true"} == SIDE_EFFECTS


@pytest.mark.parametrize("service", EMBEDDINGS)
@pytest.mark.parametrize("store", STORES)
def test_an_embedding_service_and_a_store_make_a_graph_that_can_be_computed(service: str, store: str) -> None:
    settings = Settings.model_validate({"embedding": {"service": service}, "store": {"name": store}})
    driver = build_driver(settings)
    nodes = [node.name for node in driver.list_available_variables() if not node.is_external_input]
    assert set(CONTRACT) <= set(nodes)
    driver.validate_execution(nodes, inputs=inputs(settings) | GIVEN)


def _nodes(name: str) -> dict[str, FunctionType]:
    module = load("stores", name)
    functions = getmembers(module, isfunction)
    return {node: function for node, function in functions if function.__module__ == module.__name__ and node[0] != "_"}


def _shared_types(node: str, function: FunctionType) -> dict[str, Any]:
    hints = get_type_hints(function)
    own = {*OWN_TYPES, "return"} if node in OWN_TYPES else {*OWN_TYPES}
    return {name: kind for name, kind in hints.items() if name not in own}
