"""Weaviate's catalog: a small collection that says which generations there are, and which one is live.

Weaviate cannot write on a condition: what is written is read before, compared, and read back. Where the server
has aliases (from 1.32 on), one with the collection's name follows the pointer, so that `Squad` can be queried.
"""

import json
import logging
from dataclasses import asdict
from functools import partial
from uuid import NAMESPACE_URL, UUID, uuid5

from weaviate.classes.config import Configure, ConsistencyLevel, DataType, Property, Tokenization
from weaviate.classes.data import DataObject
from weaviate.classes.query import Filter
from weaviate.collections import Collection
from weaviate.exceptions import UnexpectedStatusCodeError, WeaviateUnsupportedFeatureError

from squadron.stores.contract import LivePointer, StoredRecord
from squadron.stores.record_revisions import absent_generation, first_record, next_record, stale_record
from squadron.stores.weaviate.connection import Connection
from squadron.stores.weaviate.requests import answered
from squadron.stores.weaviate.schema import class_exists, class_name, create_class

log = logging.getLogger(__name__)

# No generation is called like this: class_name leaves a single capital.
CATALOG = "SquadronCatalog"
ENTRIES_AT_ONCE = 1_000


def records(connection: Connection, collection_name: str) -> dict[str, StoredRecord]:
    """The records of the collection's generations that exist."""
    entries = _entries(connection, "generation", collection_name)
    existing = {name: text for name, text in entries.items() if class_exists(connection, class_name(name))}
    return {name: _record(text) for name, text in existing.items()}


def begin_record(connection: Connection, collection_name: str, generation: str) -> None:
    """Write a generation's first record, unless it has one."""
    if generation in _entries(connection, "generation", collection_name):
        return
    rows, key = _catalog(connection), _key("generation", collection_name, generation)
    properties = _properties("generation", collection_name, generation, _entry(first_record()))

    def insert() -> None:
        try:
            rows.data.insert(properties, uuid=key)
        except UnexpectedStatusCodeError:
            if not rows.data.exists(key):
                raise

    answered(connection, f"write the record of {generation!r}", insert)


def write_record(
    connection: Connection, collection_name: str, generation: str, record_text: str, expected_revision: int
) -> StoredRecord:
    """The record, written in place of the one with the expected revision, and read back."""
    stored = records(connection, collection_name).get(generation)
    if not (stored or expected_revision or class_exists(connection, class_name(generation))):
        raise absent_generation(collection_name, generation)
    record = next_record(generation, record_text, stored, expected_revision)
    _replace(connection, "generation", collection_name, generation, _entry(record))
    stored = records(connection, collection_name).get(generation)
    if stored != record:
        raise stale_record(generation, stored, expected_revision)
    return record


def remove_record(connection: Connection, collection_name: str, generation: str) -> None:
    """Remove a generation's record, if it has one."""
    if class_exists(connection, CATALOG):
        rows, key = _catalog_rows(connection), _key("generation", collection_name, generation)
        answered(connection, f"delete the record of {generation!r}", lambda: rows.data.delete_by_id(key))


def pointer(connection: Connection, collection_name: str) -> LivePointer | None:
    """The live pointer; None before the first promotion."""
    text = _entries(connection, "live", collection_name).get(collection_name)
    return LivePointer(**json.loads(text)) if text else None


def moved(connection: Connection, new_pointer: LivePointer) -> bool:
    """Whether the pointer was moved, and read back: not when another run moved it meanwhile."""
    collection = new_pointer.collection
    _replace(connection, "live", collection, collection, json.dumps(asdict(new_pointer)))
    return pointer(connection, collection) == new_pointer


def point_alias(connection: Connection, collection_name: str) -> None:
    """Let the alias follow the live pointer, where the server has aliases and the name is free."""
    while live := pointer(connection, collection_name):
        answered(connection, f"move the alias {class_name(collection_name)}", partial(_set_alias, connection, live))
        if pointer(connection, collection_name) == live:  # else another run moved the pointer meanwhile
            return


def _set_alias(connection: Connection, live: LivePointer) -> None:
    alias, target = class_name(live.collection), class_name(live.generation)
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


def _entries(connection: Connection, kind: str, collection_name: str) -> dict[str, str]:
    """The entries of a kind, JSON by name."""
    if not class_exists(connection, CATALOG):
        return {}
    rows = _catalog_rows(connection)
    filters = Filter.all_of(
        [Filter.by_property("kind").equal(kind), Filter.by_property("collection").equal(collection_name)]
    )
    reply = answered(
        connection, "read the catalog", lambda: rows.query.fetch_objects(filters=filters, limit=ENTRIES_AT_ONCE)
    )
    return {str(row.properties["name"]): str(row.properties["entry"]) for row in reply.objects}


def _replace(connection: Connection, kind: str, collection_name: str, name: str, entry: str) -> None:
    """Put an entry in place of the one before."""
    rows = _catalog(connection)
    row = DataObject(properties=_properties(kind, collection_name, name, entry), uuid=_key(kind, collection_name, name))
    answered(connection, f"write the catalog entry of {name!r}", lambda: rows.data.insert_many([row]))


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


def _entry(record: StoredRecord) -> str:
    return json.dumps(asdict(record))


def _record(entry: str) -> StoredRecord:
    stored = json.loads(entry)
    if stored.keys() == {"text", "revision"}:
        return StoredRecord(**stored)
    return StoredRecord(entry, 1)  # an earlier version of Squadron wrote the text alone


def _properties(kind: str, collection_name: str, name: str, entry: str) -> dict[str, str]:
    return {"kind": kind, "collection": collection_name, "name": name, "entry": entry}


def _key(kind: str, collection_name: str, name: str) -> UUID:
    return uuid5(NAMESPACE_URL, f"squadron:{kind}:{collection_name}:{name}")
