"""A Weaviate server's data, in memory: classes, objects, aliases. Search is exact, errors read like Weaviate's."""

import re
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from copy import deepcopy
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID

import numpy as np

CLASS_NAME = re.compile(r"[A-Z][_0-9A-Za-z]{0,254}")
PROPERTY_NAME = re.compile(r"[_A-Za-z][_0-9A-Za-z]{0,230}")
RESERVED_PROPERTIES = {"_additional", "_id", "id"}
DATA_TYPES = {"text": str, "int": float, "number": float, "boolean": bool}
DISTANCES = ("cosine", "dot", "l2-squared")
HNSW = {
    "skip": False,
    "cleanupIntervalSeconds": 300,
    "maxConnections": 32,
    "efConstruction": 128,
    "ef": -1,
    "dynamicEfMin": 100,
    "dynamicEfMax": 500,
    "dynamicEfFactor": 8,
    "vectorCacheMaxObjects": 1_000_000_000_000,
    "flatSearchCutoff": 40_000,
    "distance": "cosine",
    "filterStrategy": "sweeping",
    "pq": {"enabled": False},
    "bq": {"enabled": False},
    "sq": {"enabled": False},
    "rq": {"enabled": False},
}
CLASS_DEFAULTS: dict[str, Any] = {
    "description": "",
    "properties": [],
    "invertedIndexConfig": {
        "bm25": {"b": 0.75, "k1": 1.2},
        "cleanupIntervalSeconds": 60,
        "stopwords": {"preset": "en", "additions": None, "removals": None},
    },
    "multiTenancyConfig": {"enabled": False},
    "replicationConfig": {"factor": 1, "asyncEnabled": False, "deletionStrategy": "NoAutomatedResolution"},
    "shardingConfig": {
        "virtualPerPhysical": 128,
        "desiredCount": 1,
        "actualCount": 1,
        "desiredVirtualCount": 128,
        "actualVirtualCount": 128,
        "key": "_id",
        "strategy": "hash",
        "function": "murmur3",
    },
}


class InvalidError(Exception):
    """What Weaviate answers with 422, or with an error in place of a reply."""


class NotFoundError(Exception):
    """What Weaviate answers with 404."""


@dataclass
class Stored:
    """An object."""

    uuid: UUID
    properties: dict[str, Any]
    vector: np.ndarray | None


@dataclass
class Class:
    """A class with its objects."""

    schema: dict[str, Any]
    objects: dict[int, Stored] = field(default_factory=dict)
    _ordered: list[Stored] | None = None
    _matrix: tuple[list[Stored], np.ndarray] | None = None

    def property(self, name: str) -> dict[str, Any]:
        for known in self.schema["properties"]:
            if known["name"] == name:
                return known
        raise InvalidError(f"no such prop with name {name!r} found in class {self.schema['class']!r} in the schema")

    def put(self, stored: Stored) -> None:
        self._check(stored)
        self.objects[stored.uuid.int] = stored
        self._ordered = self._matrix = None

    def remove(self, key: int) -> bool:
        self._ordered = self._matrix = None
        return self.objects.pop(key, None) is not None

    def ordered(self) -> list[Stored]:
        """The objects by uuid, ascending: the order of the bucket they lie in."""
        if self._ordered is None:
            self._ordered = [self.objects[key] for key in sorted(self.objects)]
        return self._ordered

    def nearest(
        self, query: np.ndarray, limit: int, meets: Callable[[Stored], bool] | None
    ) -> list[tuple[Stored, float]]:
        """The objects with a vector, nearest first, with their distances."""
        rows, matrix = self._vectors()
        if not rows:
            return []
        if query.shape[0] != matrix.shape[1]:
            raise InvalidError(f"vector search: vector lengths don't match: {query.shape[0]} vs {matrix.shape[1]}")
        distances = self._distances(matrix, query)
        order = np.argsort(distances, kind="stable")
        found = ((rows[at], float(distances[at])) for at in order if meets is None or meets(rows[at]))
        return [pair for _, pair in zip(range(limit), found, strict=False)]

    def _vectors(self) -> tuple[list[Stored], np.ndarray]:
        if self._matrix is None:
            rows = [stored for stored in self.ordered() if stored.vector is not None]
            self._matrix = rows, np.array([stored.vector for stored in rows], np.float32)
        return self._matrix

    def _distances(self, matrix: np.ndarray, query: np.ndarray) -> np.ndarray:
        distance = next(iter(self.schema["vectorConfig"].values()))["vectorIndexConfig"]["distance"]
        if distance == "l2-squared":
            return ((matrix - query) ** 2).sum(1)
        if distance == "dot":
            return -(matrix @ query)
        lengths = np.linalg.norm(matrix, axis=1) * np.linalg.norm(query)
        return 1 - matrix @ query / np.where(lengths == 0, 1, lengths)

    def _check(self, stored: Stored) -> None:
        for name, value in stored.properties.items():
            wanted = self.property(name)["dataType"][0]
            if not isinstance(value, DATA_TYPES[wanted]):
                raise InvalidError(
                    f"invalid {wanted} property {name!r} on class {self.schema['class']!r}: "
                    f"not a {wanted}, but {type(value).__name__}"
                )
        one = next((other for other in self.objects.values() if other.vector is not None), None)
        if stored.vector is not None and one is not None and len(one.vector) != len(stored.vector):
            raise InvalidError(
                f"new node has a vector with length {len(stored.vector)}. "
                f"Existing nodes have vectors with length {len(one.vector)}"
            )


class Database:
    """All classes and aliases. Hold `lock` around every use."""

    def __init__(self) -> None:
        self.lock = threading.RLock()
        self.classes: dict[str, Class] = {}
        self.aliases: dict[str, str] = {}

    def open(self, name: str) -> Class:
        """The class of that name, or of the alias."""
        name = self.aliases.get(name, name)
        if name not in self.classes:
            raise InvalidError(f"could not find class {name} in schema")
        return self.classes[name]

    def add_class(self, given: Mapping[str, Any]) -> dict[str, Any]:
        schema = deepcopy(CLASS_DEFAULTS) | deepcopy(dict(given))
        schema["class"] = name = _upper(schema.get("class", ""))
        if not CLASS_NAME.fullmatch(name):
            raise InvalidError(f"'{name}' is not a valid class name")
        if taken := self._taken(name):
            raise InvalidError(f"class name {taken} already exists")
        properties, schema["properties"] = schema["properties"] or [], []
        for given_property in properties:
            schema["properties"].append(_valid_property(given_property, schema))
        for vector in schema.setdefault("vectorConfig", {}).values():
            vector["vectorIndexType"] = vector.get("vectorIndexType") or "hnsw"
            vector["vectorIndexConfig"] = HNSW | (vector.get("vectorIndexConfig") or {})
            if vector["vectorIndexConfig"]["distance"] not in DISTANCES:
                raise InvalidError("parse vector index config: unrecognized or unsupported distance metric")
        self.classes[name] = Class(schema)
        return schema

    def add_property(self, name: str, given: Mapping[str, Any]) -> dict[str, Any]:
        schema = self.open(name).schema
        added = _valid_property(given, schema)
        schema["properties"] = [*schema["properties"], added]
        return added

    def add_alias(self, alias: str, target: str) -> dict[str, str]:
        alias, target = _upper(alias), _upper(target)
        if not CLASS_NAME.fullmatch(alias):
            raise InvalidError(f"'{alias}' is not a valid alias name")
        if target not in self.classes:
            raise NotFoundError(f"class {target}: not found")
        if taken := self._taken(alias):
            raise InvalidError(f"create alias: alias name: {taken} already exists")
        self.aliases[alias] = target
        return {"alias": alias, "class": target}

    def move_alias(self, alias: str, target: str) -> dict[str, str]:
        alias, target = _upper(alias), _upper(target)
        if alias not in self.aliases or target not in self.classes:
            raise NotFoundError(f"not found, no alias found with name: {alias}")
        self.aliases[alias] = target
        return {"alias": alias, "class": target}

    def _taken(self, name: str) -> str | None:
        """Names that differ in case alone are taken too."""
        return next((known for known in [*self.classes, *self.aliases] if known.lower() == name.lower()), None)


def meeting(of: Class, filters: Any) -> Callable[[Stored], bool]:
    """Whether an object meets the filters of a request (`base_pb2.Filters`)."""
    operator = filters.Operator.Name(filters.operator).removeprefix("OPERATOR_")
    if operator in ("AND", "OR"):
        parts, every = [meeting(of, part) for part in filters.filters], all if operator == "AND" else any
        return lambda stored: every(part(stored) for part in parts)
    name = filters.target.property or (filters.on[0] if filters.on else "")
    wanted = list(filters.value_text_array.values) if operator == "CONTAINS_ANY" else [filters.value_text]
    if operator == "LIKE":
        pattern = re.compile(re.escape(filters.value_text).replace(r"\*", ".*").replace(r"\?", "."), re.DOTALL)
        return lambda stored: bool(pattern.fullmatch(stored.properties.get(name, "")))
    if operator not in ("EQUAL", "CONTAINS_ANY"):
        raise InvalidError(f"unknown operator {operator}")
    if name in ("_id", "id"):
        keys = {UUID(value).int for value in wanted}
        return lambda stored: stored.uuid.int in keys
    known = of.property(name)
    if not known["indexFilterable"]:
        raise InvalidError(
            f"Filtering by property '{name}' requires inverted index. Is `indexFilterable` option of property "
            f"'{name}' enabled? Set it to `true` or leave empty"
        )
    terms = [set(_tokens(value, known["tokenization"])) for value in wanted]
    return lambda stored: any(
        term <= set(_tokens(stored.properties.get(name), known["tokenization"])) for term in terms
    )


def page(rows: Iterable[Stored], after: str, limit: int) -> Iterator[Stored]:
    """At most so many of the rows, those behind a uuid."""
    start = UUID(after).int if after else -1
    return (row for _, row in zip(range(limit), (row for row in rows if row.uuid.int > start), strict=False))


def _tokens(value: Any, tokenization: str) -> set[str]:
    if value is None:
        return set()
    return {value.strip()} if tokenization == "field" else set(re.findall(r"\w+", value.lower()))


def _valid_property(given: Mapping[str, Any], schema: Mapping[str, Any]) -> dict[str, Any]:
    name, kind = given["name"][:1].lower() + given["name"][1:], given["dataType"][0]
    if not PROPERTY_NAME.fullmatch(name) or name in RESERVED_PROPERTIES:
        raise InvalidError(f"'{name}' is not a valid property name")
    if name.lower() in [known["name"].lower() for known in schema["properties"]]:
        raise InvalidError(
            f"class {schema['class']!r}: conflict for property {name!r}: already in use or provided multiple times"
        )
    if kind not in DATA_TYPES:
        raise InvalidError(f"property '{name}': invalid dataType: unknown primitive data type '{kind}'")
    text = kind == "text"
    defaults = {"indexFilterable": True, "indexSearchable": text} | ({"tokenization": "word"} if text else {})
    kept = {key: value for key, value in given.items() if value is not None}
    return defaults | kept | {"name": name}


def _upper(name: str) -> str:
    return name[:1].upper() + name[1:]
