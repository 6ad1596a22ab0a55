"""Weaviate's catalog: a small collection that says which generations there are, and which one is live.

Weaviate cannot write on a condition: the live pointer is read, checked, written and read back. Where the server
has aliases (from 1.32 on), one with the collection's name follows the pointer, so that `Squad` can be queried.
"""

import json
import logging
from functools import partial
from typing import Any
from uuid import NAMESPACE_URL, UUID, uuid5

from weaviate.classes.config import Configure, ConsistencyLevel, DataType, Property, Tokenization
from weaviate.classes.data import DataObject
from weaviate.classes.query import Filter
from weaviate.collections import Collection
from weaviate.exceptions import UnexpectedStatusCodeError, WeaviateUnsupportedFeatureError

from squadron.stores.weaviate.connection import Connection
from squadron.stores.weaviate.requests import answered
from squadron.stores.weaviate.schema import class_exists, class_name, create_class

log = logging.getLogger(__name__)

# No generation is called like this: class_name leaves a single capital.
CATALOG = "SquadronCatalog"
ENTRIES_AT_ONCE = 1_000


def enter(connection: Connection, kind: str, collection_name: str, name: str, entry: dict[str, Any]) -> None:
    """Put an entry in place of the one before."""
    rows = _catalog(connection)
    row = DataObject(properties=_properties(kind, collection_name, name, entry), uuid=_key(kind, collection_name, name))
    answered(connection, f"write the catalog entry of {name!r}", lambda: rows.data.insert_many([row]))


def enter_new(connection: Connection, kind: str, collection_name: str, name: str, entry: dict[str, Any]) -> None:
    """Put an entry where there is none."""
    rows, key = _catalog(connection), _key(kind, collection_name, name)
    properties = _properties(kind, collection_name, name, entry)

    def insert() -> None:
        try:
            rows.data.insert(properties, uuid=key)
        except UnexpectedStatusCodeError:
            if not rows.data.exists(key):
                raise

    answered(connection, f"write the catalog entry of {name!r}", insert)


def entries(connection: Connection, kind: str, collection_name: str) -> dict[str, dict[str, Any]]:
    """The entries of a kind, by name."""
    if not class_exists(connection, CATALOG):
        return {}
    rows = _catalog_rows(connection)
    wanted = Filter.all_of(
        [Filter.by_property("kind").equal(kind), Filter.by_property("collection").equal(collection_name)]
    )
    found = answered(
        connection, "read the catalog", lambda: rows.query.fetch_objects(filters=wanted, limit=ENTRIES_AT_ONCE)
    )
    return {str(row.properties["name"]): json.loads(str(row.properties["entry"])) for row in found.objects}


def strike(connection: Connection, kind: str, collection_name: str, name: str) -> None:
    """Take an entry out of the catalog, if it is there."""
    if class_exists(connection, CATALOG):
        rows, key = _catalog_rows(connection), _key(kind, collection_name, name)
        answered(connection, f"delete the catalog entry of {name!r}", lambda: rows.data.delete_by_id(key))


def live_entry(connection: Connection, collection_name: str) -> dict[str, Any] | None:
    """The live pointer."""
    return entries(connection, "live", collection_name).get(collection_name)


def point_alias(connection: Connection, collection_name: str) -> None:
    """Let the alias follow the live pointer, where the server has aliases and the name is free."""
    while live := live_entry(connection, collection_name):
        answered(connection, f"move the alias {class_name(collection_name)}", partial(_set_alias, connection, live))
        if live_entry(connection, collection_name) == live:  # else another run moved the pointer meanwhile
            return


def _set_alias(connection: Connection, live: dict[str, Any]) -> None:
    alias, target = class_name(live["collection"]), class_name(live["generation"])
    aliases = connection.client.alias
    try:
        if aliases.update(alias_name=alias, new_target_collection=target):
            return
    except WeaviateUnsupportedFeatureError:
        log.info("the server has no aliases: %s can only be queried as %s", alias, target)
        return
    if connection.client.collections.exists(alias):
        log.warning("there is a class %s already, so no alias of that name follows the live generation", alias)
        return
    try:
        aliases.create(alias_name=alias, target_collection=target)
    except UnexpectedStatusCodeError:
        if not aliases.update(alias_name=alias, new_target_collection=target):
            raise


def _catalog(connection: Connection) -> Collection:
    if not class_exists(connection, CATALOG):
        exact = partial(Property, data_type=DataType.TEXT, tokenization=Tokenization.FIELD, index_searchable=False)
        create_class(
            connection,
            CATALOG,
            description="Squadron: the generations of its collections, and which of them are live",
            vector_config=Configure.Vectors.self_provided(),
            properties=[
                *(exact(name=name) for name in ("kind", "collection", "name")),
                exact(name="entry", index_filterable=False),
            ],
        )
    return _catalog_rows(connection)


def _catalog_rows(connection: Connection) -> Collection:
    return connection.client.collections.use(CATALOG).with_consistency_level(ConsistencyLevel.QUORUM)


def _properties(kind: str, collection_name: str, name: str, entry: dict[str, Any]) -> dict[str, str]:
    return {"kind": kind, "collection": collection_name, "name": name, "entry": json.dumps(entry)}


def _key(kind: str, collection_name: str, name: str) -> UUID:
    return uuid5(NAMESPACE_URL, f"squadron:{kind}:{collection_name}:{name}")
