"""Outcomes: what each step hands to the next, small and plain enough for XCom."""

from dataclasses import dataclass
from typing import Any

from pipelines.staging import Shard


@dataclass(frozen=True)
class Plan:
    """What a run will do. Counts are of passages, but for `documents` and `quarantined` (rows)."""

    run_id: str
    collection: str
    generation: str
    vector_space: dict[str, str]
    """What defines the generation's vectors, spelled out."""
    live: str | None
    """The generation that was live when the plan was made."""
    folder: str
    shards: list[Shard]
    documents: int
    passages: int
    unchanged: int
    deleted: int
    quarantined: int
    tokens: int
    """Of the passages that the store lacks."""
    billed_tokens: int
    """Of those, tokens that must be embedded: their vectors are not in the cache."""
    cost: float | None
    """US dollars for them; None when the model's price is not known."""
    questions: int
    questions_digest: str
    example_question: str | None
    seconds: float

    @property
    def to_embed(self) -> int:
        """Passages that the store lacks."""
        return self.passages - self.unchanged

    @classmethod
    def of(cls, plain: dict[str, Any]) -> "Plan":
        """The plan that `asdict` made plain."""
        return cls(**plain | {"shards": [Shard(**shard) for shard in plain["shards"]]})


@dataclass(frozen=True)
class Ingested:
    """What became of a shard, or of several."""

    embedded: int = 0
    cached: int = 0
    written: int = 0
    quarantined: int = 0
    """Passages that the service refused."""
    tokens: int = 0
    device: str | None = None
    seconds: float = 0.0

    def __add__(self, other: "Ingested") -> "Ingested":
        return Ingested(
            self.embedded + other.embedded,
            self.cached + other.cached,
            self.written + other.written,
            self.quarantined + other.quarantined,
            self.tokens + other.tokens,
            other.device or self.device,
            self.seconds + other.seconds,
        )


@dataclass(frozen=True)
class Finished:
    """The generation after the deletes and the index."""

    rows: int
    deleted: int
    index: str
    seconds: float


@dataclass(frozen=True)
class Evaluation:
    """How well the generation answers the corpus's questions."""

    metrics: dict[str, float]
    questions: int
    reused: bool
    """Nothing had changed since these figures were measured."""
    seconds: float
