"""Lineage: the datasets of a run, from corpus to what readers see, as OpenLineage names and describes them.

    corpus --finish--> generation --promote--> collection

A generation has the name of its store's address (`weaviate://host:8080`, `squad_ab12cd34`), a collection that of its
asset (`lancedb://squad`), so that DAGs which take the asset as an inlet continue the graph. Nothing here imports
Airflow, and OpenLineage is imported only when it asks. Airflow finds `provider_info` by the entry point
`apache_airflow_provider`.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol
from urllib.parse import SplitResult, parse_qs, urlsplit

from squadron.airflow_support.connection_types import CONNECTION_TYPES
from squadron.settings.addresses import without_secrets, without_user
from squadron.settings.registry import STORES

if TYPE_CHECKING:
    from collections.abc import Mapping

    from openlineage.client.event_v2 import Dataset, InputDataset, OutputDataset
    from openlineage.client.facet_v2 import column_lineage_dataset, schema_dataset

    from squadron.runs.results import Finished, Plan
    from squadron.settings.schema import ColumnSettings, Settings

IDENTITY, TRANSFORMATION = "IDENTITY", "TRANSFORMATION"


class AirflowAsset(Protocol):
    """What is used of an asset."""

    uri: str
    extra: Mapping[str, Any] | None


def provider_info() -> dict[str, Any]:
    """What Airflow reads about this package: the URIs of its stores, and how OpenLineage names them."""
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


def collection_dataset(asset: AirflowAsset, _: object = None) -> Dataset:
    """The dataset of an asset, with the rows and the version that the asset's `extra` holds."""
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


def corpus_dataset(settings: Settings, documents: int) -> InputDataset:
    """The corpus that a run has read: its columns, and how many documents it has."""
    from openlineage.client.event_v2 import InputDataset
    from openlineage.client.facet_v2 import input_statistics_input_dataset

    statistics = input_statistics_input_dataset.InputStatisticsInputDatasetFacet(rowCount=documents)
    return InputDataset(
        *corpus_name(settings),
        facets={"schema": _schema(_corpus_types(_corpus_columns(settings)))},
        inputFacets={"inputStatistics": statistics},
    )


def generation_output(settings: Settings, plan: Plan, finished: Finished) -> OutputDataset:
    """The generation that a run has built: rows, columns, and which column comes from which of the corpus."""
    from openlineage.client.event_v2 import OutputDataset
    from openlineage.client.facet_v2 import dataset_version_dataset, output_statistics_output_dataset

    statistics = output_statistics_output_dataset.OutputStatisticsOutputDatasetFacet(rowCount=finished.rows)
    return OutputDataset(
        *generation_name(settings, plan.generation),
        facets={
            "schema": _schema(_record_types(_corpus_columns(settings))),
            "version": dataset_version_dataset.DatasetVersionDatasetFacet(plan.run_id),
            "columnLineage": _column_lineage(settings),
        },
        outputFacets={"outputStatistics": statistics},
    )


def generation_input(settings: Settings, generation: str) -> InputDataset:
    """A generation that a task has read."""
    from openlineage.client.event_v2 import InputDataset

    return InputDataset(*generation_name(settings, generation))


def corpus_name(settings: Settings) -> tuple[str, str]:
    """Namespace and name of the corpus: `file` and a path, or the parts of its URI."""
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
    host, _, path = rest.partition("/")
    return f"{scheme}://{host}".replace("file://", "file"), f"/{path}" if scheme == "file" else path


def generation_name(settings: Settings, generation: str) -> tuple[str, str]:
    """Namespace and name of a generation: its store's address, without user and password, and the generation."""
    store = settings.store.name
    section = getattr(settings.store, store)
    address = str(getattr(section, "uri", None) or getattr(section, "host", None) or getattr(section, "index", store))
    if store == "pgvector":  # as OpenLineage names every Postgres table
        parts = urlsplit(address)
        database = parts.path.strip("/") or "postgres"
        return f"postgres://{_postgres_host(parts)}", f"{database}.{section.schema_name}.{generation}"
    host_and_path = without_secrets(address if "://" in address else f"{store}://{address}").partition("://")[2]
    return f"{store}://{host_and_path}".rstrip("/"), generation


def _postgres_host(parts: SplitResult) -> str:
    """Host and port, neither of them empty. A socket's folder means this machine."""
    host_parameter = "".join(parse_qs(parts.query).get("host", []))
    is_socket = host_parameter.startswith("/")
    host = parts.netloc.rpartition("@")[2] or ("" if is_socket else host_parameter) or "localhost"
    return host if ":" in host.rpartition("]")[2] else f"{host}:5432"


def _corpus_columns(settings: Settings) -> ColumnSettings:
    """The sample has the columns of SQuAD, whatever the settings say."""
    columns = settings.source.columns
    return type(columns)(metadata=columns.metadata) if settings.source.name == "sample" else columns


def _corpus_types(columns: ColumnSettings) -> dict[str, str]:
    from squadron.sources.columns import wanted_columns

    return dict.fromkeys(wanted_columns(columns), "string")


def _record_types(columns: ColumnSettings) -> dict[str, str]:
    from squadron.stores.record_schema import record_schema

    fields = record_schema(1, list(columns.metadata_columns))
    return {field.name: "list<float>" if field.name == "vector" else str(field.type) for field in fields}


def _column_lineage(settings: Settings) -> column_lineage_dataset.ColumnLineageDatasetFacet:
    from openlineage.client.facet_v2 import column_lineage_dataset as facets

    namespace, name = corpus_name(settings)
    fields = {}
    for column, (kind, sources) in _origins(settings).items():
        transformation = facets.Transformation("DIRECT", kind)
        inputs = [facets.InputField(namespace, name, source, [transformation]) for source in sources]
        fields[column] = facets.Fields(inputs)
    return facets.ColumnLineageDatasetFacet(fields)


def _origins(settings: Settings) -> dict[str, tuple[str, list[str]]]:
    """Column of a record -> how it is made, and from which columns of the corpus."""
    columns = _corpus_columns(settings)
    title_and_text = [*([columns.title] if columns.title else []), columns.text]
    embedded = title_and_text if settings.passages.template.startswith("title") else [columns.text]
    identity = [columns.document_id] if columns.document_id else title_and_text
    return {
        "id": (TRANSFORMATION, list(dict.fromkeys([*identity, *title_and_text, *columns.metadata_columns.values()]))),
        "document_id": (IDENTITY if columns.document_id else TRANSFORMATION, identity),
        **({"title": (IDENTITY, [columns.title])} if columns.title else {}),
        "ordinal": (TRANSFORMATION, [columns.text]),
        "text": (TRANSFORMATION, [columns.text]),
        **{name: (IDENTITY, [column]) for name, column in columns.metadata_columns.items()},
        "vector": (TRANSFORMATION, embedded),
    }


def _schema(types: dict[str, str]) -> schema_dataset.SchemaDatasetFacet:
    from openlineage.client.facet_v2 import schema_dataset

    fields = [schema_dataset.SchemaDatasetFacetFields(name=name, type=kind) for name, kind in types.items()]
    return schema_dataset.SchemaDatasetFacet(fields)
