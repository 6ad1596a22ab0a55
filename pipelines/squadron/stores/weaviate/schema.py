"""Weaviate's schema: a generation as a class, its columns as properties."""

import json
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from weaviate.classes.config import Configure, DataType, Property, Tokenization, VectorDistances
from weaviate.collections import Collection
from weaviate.exceptions import UnexpectedStatusCodeError, WeaviateInvalidInputError

from squadron.errors import StoreError
from squadron.stores.weaviate.connection import Connection
from squadron.stores.weaviate.requests import answered

COLUMNS = ("document_id", "title", "ordinal", "text")
METRICS = {"cosine": VectorDistances.COSINE, "dot": VectorDistances.DOT, "l2": VectorDistances.L2_SQUARED}
VECTOR = "default"


@dataclass(frozen=True, eq=False)
class Generation:
    """A generation, opened."""

    connection: Connection
    name: str
    dimension: int
    metadata_columns: tuple[str, ...]
    rows: Collection = field(repr=False)  # to print it is to ask the server


@dataclass(frozen=True)
class GenerationClass:
    """What the schema says of a generation."""

    collection_name: str
    dimension: int
    metric: str
    metadata_columns: tuple[str, ...]


def class_name(name: str) -> str:
    """A generation's or a collection's name as Weaviate wants it, with a capital; ours have none."""
    return name[:1].upper() + name[1:]


def class_exists(connection: Connection, name: str) -> bool:
    """Whether there is such a class."""
    return answered(connection, f"look for {name}", lambda: connection.client.collections.exists(name))


def create_class(connection: Connection, name: str, **config: Any) -> None:
    """Create a class, unless another run was faster."""

    def create() -> None:
        try:
            connection.client.collections.create(name, **config)
        except UnexpectedStatusCodeError:
            if not connection.client.collections.exists(name):
                raise

    answered(connection, f"create {name}", create)


def create_generation_class(connection: Connection, generation: str, generation_class: GenerationClass) -> None:
    """Create the class of a generation; its vectors come from here, no module of the server embeds anything."""
    metric = generation_class.metric
    description = {
        "squadron": generation_class.collection_name,
        "dimension": generation_class.dimension,
        "metric": metric,
    }
    index = Configure.VectorIndex.hnsw(distance_metric=METRICS[metric])
    create_class(
        connection,
        class_name(generation),
        description=json.dumps(description),
        vector_config=Configure.Vectors.self_provided(name=VECTOR, vector_index_config=index),
        properties=[_property(column) for column in (*COLUMNS, *generation_class.metadata_columns)],
    )


def read_generation_class(connection: Connection, generation: str) -> GenerationClass:
    """What the schema says of a generation that exists. Raises StoreError when Squadron did not make it."""
    name = class_name(generation)
    read = partial(connection.client.collections.use(name).config.get, simple=True)
    config = answered(connection, f"describe {name}", read)
    try:
        description = json.loads(config.description or "")
        collection_name, dimension, metric = description["squadron"], description["dimension"], description["metric"]
    except (ValueError, TypeError, KeyError) as error:
        raise StoreError(
            f"there is a Weaviate collection {name!r} that Squadron did not make: "
            "choose another collection, or remove that one"
        ) from error
    columns = [_column(each.name) for each in config.properties]
    return GenerationClass(collection_name, dimension, metric, tuple(name for name in columns if name not in COLUMNS))


def add_column(connection: Connection, generation: str, column: str) -> None:
    """Add a metadata column, unless another run was faster. Rows that are there have no value in it."""
    new, config = _property(column), connection.client.collections.use(class_name(generation)).config

    def add() -> None:
        try:
            config.add_property(new)
        except (UnexpectedStatusCodeError, WeaviateInvalidInputError):
            if new.name not in [each.name for each in config.get(simple=True).properties]:
                raise

    answered(connection, f"add {column!r} to {class_name(generation)}", add)


def drop_generation_class(connection: Connection, generation: str) -> None:
    """Remove the class of a generation, and its rows."""
    name = class_name(generation)
    answered(connection, f"delete {name}", partial(connection.client.collections.delete, name))


def stored_name(column: str) -> str:
    """A column's name as a property: Weaviate makes a leading capital small, and no column begins with `_`."""
    return f"_{column}" if column[0].isupper() else column


def _column(stored: str) -> str:
    return stored.removeprefix("_")


def _property(column: str) -> Property:
    # Filters are for equal values: a field is one token, case and punctuation kept. Only the text is indexed by its
    # words, for readers who search by them.
    if column == "ordinal":
        return Property(name=column, data_type=DataType.INT, index_filterable=False)
    words = column == "text"
    return Property(
        name=stored_name(column),
        data_type=DataType.TEXT,
        tokenization=Tokenization.WORD if words else Tokenization.FIELD,
        index_filterable=not words,
        index_searchable=words,
    )
