"""Lineage: the datasets of a run, from corpus to what readers see, as OpenLineage names and describes them.

    corpus --finish--> generation --promote--> collection

A generation is named by the place where it is (`weaviate://host:8080`, `squad_ab12cd34`), a collection as its asset is
(`lancedb://squad`), so that DAGs which take the asset as an inlet continue the graph. Nothing here imports Airflow,
and OpenLineage only when it asks; Airflow finds `provider_info` by the entry point `apache_airflow_provider`.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import SplitResult, parse_qs, urlsplit

from squadron.airflow_support.connection_types import CONNECTION_TYPES
from squadron.settings.addresses import without_secrets, without_user
from squadron.settings.registry import STORES

if TYPE_CHECKING:
    from openlineage.client.event_v2 import Dataset, InputDataset, OutputDataset

    from squadron.runs.results import Finished, Plan
    from squadron.settings.schema import ColumnSettings, Settings

IDENTITY, TRANSFORMATION = "IDENTITY", "TRANSFORMATION"


def provider_info() -> dict[str, Any]:
    """What Airflow is told of this package: the URIs of its stores, and how OpenLineage names them."""
    converter = f"{__name__}.collection_dataset"
    return {
        "package-name": "squadron",
        "name": "Squadron",
        "description": "Collections of vectors as assets, and their lineage.",
        "connection-types": CONNECTION_TYPES,
        "asset-uris": [{"schemes": sorted(STORES), "handler": None, "to_openlineage_converter": converter}],
    }


def collection_uri(store: str, collection: str) -> str:
    """The asset of a collection."""
    return f"{store}://{collection}"


def collection_dataset(asset: Any, _: Any = None) -> Dataset:
    """The dataset of an asset; its rows and its version, where the asset's `extra` tells them."""
    from openlineage.client.event_v2 import OutputDataset
    from openlineage.client.facet_v2 import dataset_version_dataset, output_statistics_output_dataset

    parts, extra = urlsplit(asset.uri), asset.extra or {}
    dataset = OutputDataset(namespace=parts.scheme, name=f"{parts.netloc}{parts.path}".strip("/"))
    if extra.get("generation"):
        version = dataset_version_dataset.DatasetVersionDatasetFacet(extra["generation"])
        dataset.facets = {"version": version}
    if extra.get("rows") is not None:
        rows = output_statistics_output_dataset.OutputStatisticsOutputDatasetFacet(rowCount=extra["rows"])
        dataset.outputFacets = {"outputStatistics": rows}
    return dataset


def built(settings: Settings, plan: Plan, finished: Finished) -> tuple[InputDataset, OutputDataset]:
    """The corpus and the generation that was made of it: rows, columns, and which columns come from which."""
    from openlineage.client.event_v2 import InputDataset, OutputDataset
    from openlineage.client.facet_v2 import (
        column_lineage_dataset,
        dataset_version_dataset,
        input_statistics_input_dataset,
        output_statistics_output_dataset,
    )

    columns = _columns_read(settings)
    namespace, name = corpus_name(settings)
    read = input_statistics_input_dataset.InputStatisticsInputDatasetFacet(rowCount=plan.documents)
    corpus = InputDataset(
        namespace,
        name,
        facets={"schema": _schema(_corpus_types(columns))},
        inputFacets={"inputStatistics": read},
    )
    fields = {}
    for column, (kind, sources) in _origins(settings, columns).items():
        how = column_lineage_dataset.Transformation("DIRECT", kind)
        inputs = [column_lineage_dataset.InputField(namespace, name, source, [how]) for source in sources]
        fields[column] = column_lineage_dataset.Fields(inputs)
    facets = {
        "schema": _schema(_record_types(columns)),
        "version": dataset_version_dataset.DatasetVersionDatasetFacet(plan.run_id),
        "columnLineage": column_lineage_dataset.ColumnLineageDatasetFacet(fields),
    }
    rows = output_statistics_output_dataset.OutputStatisticsOutputDatasetFacet(rowCount=finished.rows)
    place = generation_name(settings, plan.generation)
    return corpus, OutputDataset(*place, facets=facets, outputFacets={"outputStatistics": rows})


def generation_dataset(settings: Settings, generation: str) -> InputDataset:
    """A generation that is read."""
    from openlineage.client.event_v2 import InputDataset

    return InputDataset(*generation_name(settings, generation))


def corpus_name(settings: Settings) -> tuple[str, str]:
    """Namespace and name of the corpus: `file` and a path, or where the URI leads."""
    source = settings.source
    if source.name == "sample":
        from squadron.settings.home import PACKAGE_DATA

        return "file", str(PACKAGE_DATA / "sample.json")
    if not source.path:
        return "hf://datasets", "rajpurkar/squad"
    if "://" not in source.path:
        return "file", str(Path(source.path).absolute())
    is_http = source.path.startswith("http")  # elsewhere a question mark may be a glob's
    scheme, _, rest = (without_secrets if is_http else without_user)(source.path).partition("://")
    host, _, name = rest.partition("/")
    return f"{scheme}://{host}".replace("file://", "file"), f"/{name}" if scheme == "file" else name


def generation_name(settings: Settings, generation: str) -> tuple[str, str]:
    """Namespace and name of a generation: its store with the place of it, without user and password."""
    store = settings.store.name
    chosen = getattr(settings.store, store)
    place = str(getattr(chosen, "uri", None) or getattr(chosen, "host", None) or getattr(chosen, "index", store))
    if store == "pgvector":  # as Postgres's tables are named everywhere
        parts = urlsplit(place)
        database = parts.path.strip("/") or "postgres"
        return f"postgres://{_postgres(parts)}", f"{database}.{chosen.schema_name}.{generation}"
    shown = without_secrets(place if "://" in place else f"{store}://{place}").partition("://")[2]
    return f"{store}://{shown}".rstrip("/"), generation


def _postgres(parts: SplitResult) -> str:
    """Host and port, both always there; a socket's folder is this machine."""
    named = "".join(parse_qs(parts.query).get("host", []))
    host = parts.netloc.rpartition("@")[2] or ("" if named.startswith("/") else named) or "localhost"
    return host if ":" in host.rpartition("]")[2] else f"{host}:5432"


def _columns_read(settings: Settings) -> ColumnSettings:
    """The sample has the columns of SQuAD, whatever the settings say."""
    columns = settings.source.columns
    return type(columns)(metadata=columns.metadata) if settings.source.name == "sample" else columns


def _corpus_types(columns: ColumnSettings) -> dict[str, str]:
    from squadron.sources.rows import wanted_columns

    return dict.fromkeys(wanted_columns(columns), "string")


def _record_types(columns: ColumnSettings) -> dict[str, str]:
    from squadron.dataflow.records import record_schema

    fields = record_schema(1, columns.metadata)
    return {field.name: "list<float>" if field.name == "vector" else str(field.type) for field in fields}


def _origins(settings: Settings, columns: ColumnSettings) -> dict[str, tuple[str, list[str]]]:
    """Column of a record -> how it is made, and of which columns of the corpus."""
    said = [*([columns.title] if columns.title else []), columns.text]
    identity = [columns.document_id] if columns.document_id else said
    return {
        "id": (TRANSFORMATION, list(dict.fromkeys([*identity, *said, *columns.metadata]))),
        "document_id": (IDENTITY if columns.document_id else TRANSFORMATION, identity),
        **({"title": (IDENTITY, [columns.title])} if columns.title else {}),
        "ordinal": (TRANSFORMATION, [columns.text]),
        "text": (TRANSFORMATION, [columns.text]),
        **{name: (IDENTITY, [name]) for name in columns.metadata},
        "vector": (TRANSFORMATION, said if settings.passages.template.startswith("title") else [columns.text]),
    }


def _schema(types: dict[str, str]) -> Any:
    from openlineage.client.facet_v2 import schema_dataset

    fields = [schema_dataset.SchemaDatasetFacetFields(name=name, type=kind) for name, kind in types.items()]
    return schema_dataset.SchemaDatasetFacet(fields)
