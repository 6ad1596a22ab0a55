"""Variables: what Airflow Variables say, of all collections and of one."""

import json
from typing import Any

import pytest

from squadron.airflow_support.variables import variable_layers
from squadron.errors import SettingsError
from squadron.settings.layers import resolve


def texts(vector_ingest: Any, **others: str) -> Any:
    """A function that answers as Airflow's Variables would."""
    return {"vector_ingest": json.dumps(vector_ingest), **others}.get


def test_a_variable_for_one_collection_beats_the_one_for_all() -> None:
    text_of = texts(
        {"source": {"limit": 5}, "collections": {"sample": {"source": {"limit": 7}}}}, embedding_service="hashing"
    )

    sample, squad = (resolve(variable_layers(text_of, name)) for name in ("sample", None))

    assert (sample.settings.source.limit, squad.settings.source.limit) == (7, 5)
    assert sample.origins["source.limit"] == "Variable vector_ingest, collections.sample"
    assert sample.origins["embedding.service"] == "Variable embedding_service"


def test_a_variable_for_one_collection_beats_the_ones_that_swap_backends() -> None:
    text_of = texts({"collections": {"sample": {"vector_store": "weaviate"}}}, vector_store="pinecone")

    assert resolve(variable_layers(text_of, "sample")).settings.store.name == "weaviate"
    assert resolve(variable_layers(text_of)).settings.store.name == "pinecone"


@pytest.mark.parametrize(
    ("value", "told"),
    [
        ([1], "wanted a JSON object"),
        ({"collections": ["sample"]}, r"wanted \{\"faq\": "),
        ({"collections": {"sampel": {}}}, r"did you mean 'sample'\?.*config/sampel\.toml"),
        ({"collections": {"sample": {"source": {"limt": 1}}}}, "did you mean 'source.limit'"),
    ],
)
def test_a_variable_that_makes_no_sense_is_refused(value: Any, told: str) -> None:
    with pytest.raises(SettingsError, match=told):
        resolve(variable_layers(texts(value), "sample"))
