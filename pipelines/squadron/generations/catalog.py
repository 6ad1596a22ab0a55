"""Catalog: the generations of a collection, their records, and which one is live."""

import logging
from collections.abc import Iterator
from typing import Any

from pydantic import JsonValue

from squadron.dataflow.changes import StoredDocuments
from squadron.dataflow.driver import Graph, shared_graph
from squadron.errors import GuardError, StaleRecordError, StoreError
from squadron.generations.record import GenerationRecord, RecordedSettings, now
from squadron.settings.schema import Settings
from squadron.stores.contract import LivePointer

log = logging.getLogger(__name__)

WRITE_TRIES = 8
"""How often a change of a record is tried that other writers of the same record get in the way of."""


class Generations:
    """The generations of a collection, as one read of the store found them; a step reads once and hands this on.

    Its own writes are seen in it. Those of others are not, but a record that another has written since is not written
    over: the change is made to what the store holds by then.
    """

    def __init__(self, graph: Graph) -> None:
        self.graph = graph
        self._tables: dict[str, Any] = {}
        self._writable: dict[str, Any] = {}
        self.read()

    @classmethod
    def of(cls, settings: Settings) -> "Generations":
        """Of the configured collection, in its store."""
        return cls(shared_graph(settings))

    def through(self, graph: Graph) -> "Generations":
        """The same, their tables opened by another graph: that of the settings that a generation was made with."""
        other = object.__new__(Generations)
        other.graph, other._tables, other._writable = graph, {}, {}
        other._records, other.pointer = self._records, self.pointer
        return other

    def read(self) -> None:
        """Read them again."""
        values = self.graph.values(["client", "generation_records", "live_generation"])
        self._records = {name: GenerationRecord.read(stored) for name, stored in values["generation_records"].items()}
        self.pointer: LivePointer | None = values["live_generation"]

    def __contains__(self, generation: object) -> bool:
        return generation in self._records

    def __iter__(self) -> Iterator[str]:
        return iter(self._records)

    def __len__(self) -> int:
        return len(self._records)

    def __getitem__(self, generation: str) -> GenerationRecord:
        return self._records[generation]

    def get(self, generation: str | None) -> GenerationRecord:
        """The record of a generation; an empty one where there is none."""
        return self._records.get(generation or "", GenerationRecord())

    def items(self) -> Iterator[tuple[str, GenerationRecord]]:
        """Names and records."""
        return iter(self._records.items())

    @property
    def live(self) -> str | None:
        """The generation that readers see."""
        return self.pointer.generation if self.pointer else None

    @property
    def predecessor(self) -> str | None:
        """What was live when the live generation was promoted; the pointer itself knows only what was live last."""
        return (self.get(self.live).predecessor or self.pointer.previous) if self.pointer else None

    def newest_first(self) -> list[str]:
        """The names, by when the generations began."""
        return sorted(self._records, key=lambda name: self._records[name].created_at or "", reverse=True)

    def planned(self, generation: str, run_id: str) -> GenerationRecord:
        """The record of the generation that a run has planned for, for the steps that carry the plan out.

        Raises GuardError when another run has planned for it since: the plan is of what the generation held before.
        """
        if generation not in self:
            raise StoreError(
                f"{generation!r} is there no more: it was dropped since it was planned for. Trigger a new run"
            )
        record = self[generation]
        _check_claim(record, generation, run_id)
        return record

    def table(self, generation: str) -> Any:
        """The table of a generation that exists, opened as its record says."""
        self.values(generation)
        return self._tables[generation]

    def values(self, generation: str, *nodes: str) -> dict[str, Any]:
        """The values of nodes that tell of a generation: `stored_documents`, `row_count`, `version`.

        They are computed in the execution that opens the table, if it is not open yet.
        """
        if generation in self._tables:
            return self.graph.values(nodes, generation_table=self._tables[generation]) if nodes else {}
        settings = self[generation].settings
        space = {"dimension": self[generation].dimension, "metric": settings.store["metric"]} if settings else {}
        values = self.graph.values(["generation_table", *nodes], generation=generation, metadata_columns=(), **space)
        self._tables[generation] = values["generation_table"]
        return values

    def stored_documents(self, generation: str) -> StoredDocuments:
        """The documents that a generation holds."""
        documents: StoredDocuments = self.values(generation, "stored_documents")["stored_documents"]
        return documents

    def writable_table(self, generation: str) -> Any:
        """The table of a generation of today's settings, with all metadata columns of today."""
        if generation not in self._writable:
            self._writable[generation] = self.graph.value("generation_table", generation=generation)
        return self._writable[generation]

    def begin(self, settings: Settings, generation: str, **fields: Any) -> GenerationRecord:
        """Create the generation of today's settings, and its record."""
        values = self.graph.values(["generation_table", "dimension"], generation=generation)
        self._tables[generation] = self._writable[generation] = values["generation_table"]
        self.read()  # the store has begun a record
        return self.change(
            generation,
            created_at=now(),
            dimension=values["dimension"],
            settings=RecordedSettings.of(settings),
            **fields,
        )

    def change(self, generation: str, run_id: str | None = None, **fields: Any) -> GenerationRecord:
        """Change fields of a record; what others have written to it meanwhile stays.

        With `run_id`, raises GuardError when another run has planned for the generation since.
        """
        for _ in range(WRITE_TRIES):
            record = self.get(generation)
            if run_id is not None:
                _check_claim(record, generation, run_id)
            changed = record.model_copy(update=fields)
            if changed == record and record.revision:
                return record
            try:
                stored = self.graph.value(
                    "record_stored",
                    generation=generation,
                    record_text=changed.text(),
                    expected_revision=record.revision,
                )
            except StaleRecordError:
                self.read()
                continue
            self._records[generation] = changed.model_copy(update={"revision": stored.revision})
            return self._records[generation]
        raise StoreError(
            f"the record of {generation!r} could not be written: others wrote it {WRITE_TRIES} times in between. "
            "Run again when they are done"
        )

    def move_live(self, generation: str, expected_live: str | None) -> LivePointer:
        """Point the collection at another generation. Raises StaleLiveError when `expected_live` is not live."""
        pointer: LivePointer = self.graph.value("promoted", generation=generation, expected_live=expected_live)
        self.pointer = pointer
        return pointer

    def drop(self, generation: str) -> None:
        """Remove a generation and its record. Raises StoreError for the live one."""
        self.graph.value("dropped", generation=generation)
        self._records.pop(generation, None)
        self._tables.pop(generation, None)
        self._writable.pop(generation, None)


def generations(settings: Settings) -> list[dict[str, JsonValue]]:
    """The collection's generations for JSON, newest first: `generation`, `live`, and the fields of the record."""
    catalog = Generations.of(settings)
    return [
        {
            "generation": name,
            "live": name == catalog.live,
            **catalog[name].model_dump(mode="json", by_alias=True, exclude_none=True, exclude_defaults=True),
        }
        for name in catalog.newest_first()
    ]


def _check_claim(record: GenerationRecord, generation: str, run_id: str) -> None:
    if record.planned_by == run_id and record.taken_back:
        raise GuardError(
            f"what run {run_id!r} had changed in {generation!r} was taken back: there is nothing to carry out, and "
            "nothing was done. Trigger a new run"
        )
    if record.planned_by not in (None, run_id):
        raise GuardError(
            f"run {record.planned_by!r} has planned for {generation!r} since run {run_id!r} did: what this one would "
            "do is out of date, and nothing was done. Trigger a new run"
        )
