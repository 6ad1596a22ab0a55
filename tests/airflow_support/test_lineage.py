"""Lineage: how OpenLineage names the datasets of each store and corpus, and that Airflow finds the converter."""

from collections.abc import Callable
from importlib.metadata import entry_points
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from squadron.airflow_support import lineage
from squadron.runs.results import Finished, Plan
from squadron.settings.home import PACKAGE_DATA
from squadron.settings.registry import STORES
from squadron.settings.schema import Settings

NAMES = {
    "lancedb": ({"uri": "/data/lancedb"}, "lancedb:///data/lancedb", "books_ab12cd34"),
    "pinecone": ({"index": "shelf"}, "pinecone://shelf", "books_ab12cd34"),
    "weaviate": ({"uri": "https://weaviate:8080"}, "weaviate://weaviate:8080", "books_ab12cd34"),
    "pgvector": (
        {"uri": "postgresql://reader@db:5432/shop?sslmode=require", "schema_name": "squad"},
        "postgres://db:5432",
        "shop.squad.books_ab12cd34",
    ),
}


def planned(documents: int) -> Plan:
    known: dict[str, Any] = dict.fromkeys(Plan.__dataclass_fields__)
    return Plan(**known | {"run_id": "run", "generation": "books_ab12cd34", "documents": documents})


@pytest.mark.parametrize("store", sorted(STORES))
def test_each_store_names_its_generations_by_the_place_where_they_are(
    store: str, settings_with: Callable[..., Settings]
) -> None:
    given, namespace, name = NAMES[store]
    settings = settings_with(**{"store.name": store}, **{f"store.{store}.{key}": value for key, value in given.items()})

    named = lineage.generation_name(settings, "books_ab12cd34")

    assert named == (namespace, name)


@pytest.mark.parametrize(
    ("uri", "namespace", "database"),
    [
        ("postgresql://reader@db/shop", "postgres://db:5432", "shop"),
        ("postgresql://db:6000", "postgres://db:6000", "postgres"),
        ("postgresql://[::1]/shop", "postgres://[::1]:5432", "shop"),
        ("postgresql:///shop?host=db.example", "postgres://db.example:5432", "shop"),
        ("postgresql://reader@/shop?host=/run/postgresql", "postgres://localhost:5432", "shop"),
    ],
)
def test_a_postgres_is_named_by_host_and_port_as_others_name_it(
    uri: str, namespace: str, database: str, settings_with: Callable[..., Settings]
) -> None:
    settings = settings_with(**{"store.name": "pgvector", "store.pgvector.uri": uri})

    assert lineage.generation_name(settings, "books_1") == (namespace, f"{database}.squadron.books_1")


@pytest.mark.parametrize(
    ("source", "named"),
    [
        ({"source.name": "squad"}, ("hf://datasets", "rajpurkar/squad")),
        ({"source.name": "squad", "source.path": "hf://datasets/ours/faq"}, ("hf://datasets", "ours/faq")),
        ({"source.name": "sample"}, ("file", str(PACKAGE_DATA / "sample.json"))),
        ({"source.name": "files", "source.path": "/data/a*.parquet"}, ("file", "/data/a*.parquet")),
        ({"source.name": "files", "source.path": "file:///data/a.csv"}, ("file", "/data/a.csv")),
        ({"source.name": "files", "source.path": "s3://bucket/a/b.csv"}, ("s3://bucket", "a/b.csv")),
        ({"source.name": "files", "source.path": "https://me@host/a.csv?version=3"}, ("https://host", "a.csv")),
    ],
)
def test_a_corpus_is_named_by_where_it_is_without_secrets(
    source: dict[str, str], named: tuple[str, str], settings_with: Callable[..., Settings]
) -> None:
    assert lineage.corpus_name(settings_with(**source)) == named


@pytest.mark.parametrize("store", sorted(STORES))
def test_airflow_finds_the_converter_of_each_store_by_the_entry_point(store: str) -> None:
    (entry,) = [each for each in entry_points(group="apache_airflow_provider") if each.value.startswith("squadron")]

    schemes = [scheme for uris in entry.load()()["asset-uris"] for scheme in uris["schemes"]]

    assert store in schemes


def test_an_asset_is_named_by_its_address_alone() -> None:
    pytest.importorskip("openlineage.client")
    extra = {"generation": "books_ab12cd34", "rows": 7}

    told = lineage.collection_dataset(SimpleNamespace(uri="weaviate://books/", extra=extra))
    plain = lineage.collection_dataset(SimpleNamespace(uri="weaviate://books", extra={}))

    assert (told.namespace, told.name) == (plain.namespace, plain.name) == ("weaviate", "books")
    assert told.facets["version"].datasetVersion == "books_ab12cd34"
    assert told.outputFacets["outputStatistics"].rowCount == 7
    assert not plain.facets


@pytest.mark.parametrize("store", sorted(STORES))
def test_each_column_comes_from_columns_that_the_corpus_has(
    store: str, settings_with: Callable[..., Settings], tmp_path: Path
) -> None:
    pytest.importorskip("openlineage.client")
    columns = {"text": "body", "title": None, "document_id": "key", "metadata": ["language"]}
    changes = {f"source.columns.{key}": value for key, value in columns.items()}
    settings = settings_with(
        **{"store.name": store, "source.name": "files", "source.path": str(tmp_path / "a.csv")}, **changes
    )

    corpus = lineage.corpus_dataset(settings, documents=5)
    generation = lineage.generation_output(settings, planned(documents=5), Finished(9, 0, "none", 0.1))

    fields = generation.facets["columnLineage"].fields
    read = {field.name for field in corpus.facets["schema"].fields}
    assert {origin.field for field in fields.values() for origin in field.inputFields} <= read
    assert set(fields) <= {field.name for field in generation.facets["schema"].fields}
    assert [origin.field for origin in fields["document_id"].inputFields] == ["key"]
    assert [origin.field for origin in fields["language"].inputFields] == ["language"]
    assert [origin.field for origin in fields["vector"].inputFields] == ["body"]
    assert corpus.inputFacets["inputStatistics"].rowCount == 5
    assert generation.outputFacets["outputStatistics"].rowCount == 9
