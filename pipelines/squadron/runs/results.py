"""Outcomes: what each step hands to the next, small and plain enough for XCom."""

from dataclasses import dataclass, field
from typing import Any

from squadron.staging.shards import Shard


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
    version: int | None
    """What the generation held when the gate let it pass last, as a version to return to; None where the store keeps
    none."""
    folder: str
    shards: list[Shard]
    documents: int
    passages: int
    unchanged: int
    deleted: int
    quarantined: int
    tokens: int
    """Of the passages that the store lacks."""
    estimated_tokens: int
    """Of those, tokens that must be embedded: their vectors are not in the cache."""
    cost: float | None
    """US dollars for them; None when the model's price is not known."""
    questions: int
    asked: str
    """`questions` of the corpus, or `probes` made of its passages when it has none."""
    questions_digest: str
    example_question: str | None
    seconds: float
    held_back: int = 0
    """Of the unchanged passages, those that the corpus does not show, and that stay for some of it cannot be read."""
    source_revision: str | None = None
    """The commit of the data set that was read, where it comes from a hub."""
    estimates_are_upper_bounds: bool = False
    """Whether the model's tokenizer cannot be had here, so that tokens and cost are at most these."""

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
    billed_tokens: int = 0
    """Tokens that a remote service says it billed, those of earlier tries of the shard included."""
    billed_cost: float | None = 0.0
    """US dollars for them; None when the price is not known, or the service does not say what it bills."""
    endpoints: dict[str, dict[str, int]] = field(default_factory=dict)
    """Host -> requests `answered` and `failed`."""

    def __add__(self, other: "Ingested") -> "Ingested":
        return Ingested(
            self.embedded + other.embedded,
            self.cached + other.cached,
            self.written + other.written,
            self.quarantined + other.quarantined,
            self.tokens + other.tokens,
            other.device or self.device,
            self.seconds + other.seconds,
            self.billed_tokens + other.billed_tokens,
            None if self.billed_cost is None or other.billed_cost is None else self.billed_cost + other.billed_cost,
            {host: _summed(self.endpoints, other.endpoints, host) for host in [*self.endpoints, *other.endpoints]},
        )


@dataclass(frozen=True)
class Finished:
    """The generation after the deletes and the index."""

    rows: int
    deleted: int
    index: str
    seconds: float
    held_back: int = 0
    """Rows that were to be deleted, and stay, for the service refused their documents' new versions."""


@dataclass(frozen=True)
class Evaluation:
    """How well the generation answers the corpus's questions."""

    metrics: dict[str, float]
    live_metrics: dict[str, float]
    """Of the generation that was live at the plan, on the same questions where it could be asked."""
    unsound: list[str]
    """What is wrong with the rows that were read back."""
    questions: int
    """Those that could be asked."""
    asked: str
    """`questions` of the corpus, or `probes` made of its passages when it has none."""
    reused: bool
    """Nothing had changed since these figures were measured."""
    seconds: float


def _summed(ours: dict[str, dict[str, int]], theirs: dict[str, dict[str, int]], host: str) -> dict[str, int]:
    pair = ours.get(host, {}), theirs.get(host, {})
    return {what: sum(counts.get(what, 0) for counts in pair) for what in ("answered", "failed")}
