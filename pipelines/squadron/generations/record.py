"""Generation record: what a store keeps of a generation, beside its rows."""

from datetime import UTC, datetime
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, JsonValue, model_validator

from squadron.settings.schema import Settings
from squadron.stores.contract import StoredRecord

_TAKEN_BACK = " (taken back)"
_REPAIR = "verify --repair"
"""How records of version 0.1 said what are fields now: in `planned_by`."""


class RecordedSettings(BaseModel):
    """The settings that define the vectors of a generation, as they were when it began."""

    model_config = ConfigDict(frozen=True, extra="allow")

    embedding: dict[str, JsonValue]
    """`service`, `variant`, and the section of that service, under its name."""
    passages: dict[str, JsonValue]
    store: dict[str, JsonValue]
    """`metric`."""

    @classmethod
    def of(cls, settings: Settings) -> "RecordedSettings":
        """Of today's settings."""
        service = settings.embedding.service
        section = getattr(settings.embedding, service).model_dump(mode="json")
        return cls(
            embedding={"service": service, "variant": settings.embedding.variant, service: section},
            passages=settings.passages.model_dump(mode="json"),
            store={"metric": settings.store.metric},
        )


class GenerationRecord(BaseModel):
    """What a store keeps of a generation. None: not known yet, or no longer true of the rows.

    What a later version of Squadron adds to a record stays in it when this one writes it.
    """

    model_config = ConfigDict(frozen=True, extra="allow", populate_by_name=True)

    created_at: str | None = None
    """When it began (ISO 8601, UTC)."""
    updated_at: str | None = None
    """When a run last found it as its corpus is."""
    planned_by: str | None = None
    """The run that planned for it last: the steps of every other run do nothing to it any more."""
    taken_back: bool = False
    """What that run had changed was undone: its own steps do nothing any more either."""
    repairing: bool = False
    """That run is a repair."""
    vector_space: dict[str, str] | None = None
    """What defines its vectors, spelled out."""
    dimension: int | None = None
    settings: RecordedSettings | None = None
    """None: the run that began it has not come further, or died then."""
    canary: str | None = Field(None, alias="probes")
    """Vectors of fixed texts, to notice a model that changed under its name (`model_canary`)."""
    rows: int | None = None
    """Passages, when a run last finished."""
    documents: int | None = None
    source_revision: str | None = None
    """The commit of the data set that its rows are of, where the corpus comes from a hub."""
    index: str | None = None
    """What searches use; None while rows are written and deleted."""
    metrics: dict[str, float] | None = None
    questions: int | None = None
    """How many questions, or probes, the metrics are means over."""
    questions_digest: str | None = None
    """Of the questions that the metrics answer; None when the rows have changed since."""
    measured_digest: str | None = None
    """Of the questions of the last measurement, whatever became of the rows since."""
    base_version: int | None = None
    """The version of its table that the gate let pass last, while a run changes it in place."""
    predecessor: str | None = None
    """The generation that was live when this one was promoted: what a rollback returns to."""
    rolled_back_at: str | None = None
    """When a rollback left it; only a person makes it live again."""
    withdrawal_due: bool = False
    """Documents may have left the corpus that generations kept for a rollback still hold."""
    awaiting_approval: bool = False
    """It was measured, and a person is to say whether it goes live."""
    refused_at: str | None = None
    """When the gate, or a person, refused to make it live."""
    revision: int = Field(0, exclude=True)
    """Grows by one with each write; 0: not stored yet."""

    @model_validator(mode="before")
    @classmethod
    def _fields_and_not_suffixes(cls, values: Any) -> Any:
        planned_by = values.get("planned_by") if isinstance(values, dict) else None
        if isinstance(planned_by, str) and planned_by.endswith(_TAKEN_BACK):
            return values | {"planned_by": planned_by.removesuffix(_TAKEN_BACK), "taken_back": True}
        return values | {"repairing": True} if planned_by == _REPAIR else values

    @classmethod
    def read(cls, stored: StoredRecord) -> "GenerationRecord":
        """The record that a store keeps."""
        return cls.model_validate_json(stored.text).model_copy(update={"revision": stored.revision})

    def text(self) -> str:
        """What a store is to keep."""
        return self.model_dump_json(by_alias=True, exclude_none=True, exclude_defaults=True)

    @property
    def is_described(self) -> bool:
        """Whether it is known how its vectors were made: not while a run has only just begun it."""
        return self.settings is not None

    @property
    def is_whole(self) -> bool:
        """Whether a run has finished it: all rows are there, and the index."""
        return self.rows is not None and self.index is not None


def now() -> str:
    """The time as records keep it."""
    return datetime.now(UTC).isoformat(timespec="milliseconds")
