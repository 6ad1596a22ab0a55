"""Responses: the JSON that the page's scripts read."""

from pydantic import BaseModel


class CollectionName(BaseModel):
    """A collection, and the DAG that keeps it."""

    collection: str
    dag_id: str


class CollectionList(BaseModel):
    """The collections that the user may see, the default one first."""

    collections: list[CollectionName]


class RecordFields(BaseModel):
    """What the page shows of a generation's record. A field that is not recorded is null."""

    created_at: str | None = None
    updated_at: str | None = None
    rolled_back_at: str | None = None
    vector_space: dict[str, str] | None = None
    dimension: int | None = None
    rows: int | None = None
    documents: int | None = None
    metrics: dict[str, float | None] | None = None
    questions: int | None = None
    index: str | None = None


class GenerationDetails(RecordFields):
    """A generation."""

    generation: str
    live: bool
    fingerprint: str | None


class CollectionDetails(BaseModel):
    """A collection's generations, newest first, and its backends."""

    collection: str
    dag_id: str
    store: str
    source: str
    service: str
    previous: str | None
    """The generation to which a rollback returns."""
    may_move: bool
    """Whether the user may promote and roll back."""
    generations: list[GenerationDetails]


class PlanFigures(BaseModel):
    """Counts of passages, but for `documents` and `quarantined` (rows)."""

    live: str | None = None
    documents: int | None = None
    passages: int | None = None
    unchanged: int | None = None
    deleted: int | None = None
    quarantined: int | None = None
    tokens: int | None = None
    estimated_tokens: int | None = None
    cost: float | None = None


class RunSummary(BaseModel):
    """What the page shows of a run: of its settings the two backends alone, and no paths."""

    run_id: str
    state: str
    started: str
    failed_tasks: list[str]
    service: str | None
    store: str | None
    generation: str | None
    metrics: dict[str, float | None]
    questions: int | None
    asked: str | None
    cost: float | None
    """US dollars: what the service billed, where it says so, else the plan's estimate. Null without a report."""
    live: str | None
    promoted: bool | None
    held: str | None
    embedded: int | None
    deleted: int | None
    seconds: float | None
    plan: PlanFigures | None


class RunList(BaseModel):
    """The newest runs about a collection, newest first."""

    runs: list[RunSummary]


class QuarantineEntry(BaseModel):
    """A row, file or passage that could not be read or embedded."""

    document_id: str | None = None
    title: str | None = None
    passage_id: str | None = None
    row: int | None = None
    reason: str | None = None
    service: str | None = None
    first_seen: str | None = None
    last_seen: str | None = None
    run_id: str | None = None
    text: str | None = None
    place: str | None = None


class QuarantineList(BaseModel):
    """The newest entries, and how many there are in all."""

    total: int
    quarantined: list[QuarantineEntry]


class Match(BaseModel):
    """A passage that a search has found. A higher score is nearer."""

    rank: int
    passage_id: str
    document_id: str
    title: str | None
    text: str
    score: float


class MatchList(BaseModel):
    """The passages nearest to a question, the nearest first."""

    matches: list[Match]


class MoveResult(BaseModel):
    """Which generation is live after a move."""

    live: str | None
    previous: str | None
    held: str | None
    """Why nothing was moved."""
