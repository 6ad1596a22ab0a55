"""Settings: frozen, typed, unknown keys refused; each default stands here and nowhere else."""

from collections.abc import Iterator
from typing import Annotated, Any, Literal

from pydantic import BaseModel, Field, PositiveInt, model_validator
from pydantic.fields import FieldInfo

from squadron.settings.embedding_sections import EmbeddingSettings
from squadron.settings.store_sections import StoreSettings
from squadron.settings.types import LOCATION, Bytes, Fraction, MetadataColumn, Name, Section

_RESERVED_COLUMNS = {"id", "document_id", "title", "ordinal", "text", "tokens", "vector", "digest", "rank", "score"} | {
    "question",
    "question_id",
    "query",
    "query_index",  # LanceDB's own in an answer to several queries
}


class ColumnSettings(Section):
    """Which columns of a file hold what; a dot reaches into objects. The defaults are those of `rajpurkar/squad`."""

    text: str = Field("context", description="The text to embed.")
    title: str | None = Field("title", description="A title, stored and put before the text by the template.")
    document_id: str | None = Field(None, description="A unique id. Without one, a document is its title and text.")
    question: str | None = Field("question", description="A question that the row's document answers.")
    question_id: str | None = Field("id", description="The question's id.")
    metadata: tuple[MetadataColumn, ...] = Field(
        (),
        description="More columns to store, and to filter searches by: NAME, or NAME=COLUMN where the corpus calls it "
        "otherwise.",
    )

    @property
    def metadata_columns(self) -> dict[str, str]:
        """The name of each metadata column in the index -> the column of the corpus."""
        pairs = (entry.partition("=") for entry in self.metadata)
        return {name: column or name for name, _, column in pairs}

    @model_validator(mode="after")
    def _metadata_names_are_free(self) -> "ColumnSettings":
        names = [entry.partition("=")[0] for entry in self.metadata]
        if taken := sorted(_RESERVED_COLUMNS & set(names)):
            raise ValueError(
                f"source.columns.metadata names {', '.join(taken)}, which Squadron uses itself: rename them, as in "
                f"source_{taken[0]}={taken[0]}"
            )
        if len(set(names)) < len(names):
            raise ValueError(f"source.columns.metadata names a column twice: {', '.join(names)}")
        return self


class SourceSettings(Section):
    """Where the corpus comes from."""

    name: str = Field("squad", description="The source module.", json_schema_extra={"registry": "sources"})
    path: str | None = Field(
        None,
        json_schema_extra=LOCATION,
        description="files: path, glob or URI of parquet, JSONL, CSV or SQuAD JSON. "
        "squad: a folder with a copy of the data set, or hf://datasets/ORG/NAME, another in its shape.",
    )
    config: str | None = Field(None, description="squad: the configuration of the data set, where it has several.")
    split: str = Field("train", description="squad: the split to load.")
    revision: str | None = Field(
        None, description="squad: commit, tag or branch of the data set; this and no other is read, offline too."
    )
    limit: PositiveInt | None = Field(
        None, description="Stop after this many documents. What the index holds beyond them is deleted."
    )
    max_line_bytes: Bytes = Field(
        1 << 26, description="files: a longer line of JSONL is not read; of CSV, neither is what follows it."
    )
    max_document_bytes: Bytes = Field(1 << 24, description="A row with a longer text is not read.")
    max_json_bytes: Bytes = Field(
        1 << 28, description="files: a larger file that is one JSON value, unpacked, is not read: it is held in memory."
    )
    max_unpacked_bytes: Bytes = Field(
        1 << 35, description="files: a packed file, or parquet, is read up to this size and no further."
    )
    columns: ColumnSettings = ColumnSettings()


class PassageSettings(Section):
    """How documents become passages."""

    template: Literal["title_text_v1", "plain_v1"] = Field(
        "title_text_v1", description="The text that is embedded: title and text, or the text alone."
    )
    max_tokens: Annotated[int, Field(ge=16)] | None = Field(
        None, description="Tokens of one passage, template included. Null: all that the model reads."
    )
    overlap_tokens: Annotated[int, Field(ge=0)] = Field(
        32, description="Tokens that neighbouring passages of a long document share."
    )


class IngestSettings(Section):
    """How the work is cut."""

    staging: str = Field(
        ".squadron/staging",
        json_schema_extra=LOCATION,
        description="Where plans and shards wait; shared by all workers.",
    )
    shard_passages: Annotated[int, Field(ge=1)] = Field(
        16_384, description="Passages of one shard, the unit that Airflow maps over."
    )
    batch_passages: Annotated[int, Field(ge=1, le=65_536)] = Field(
        2_048, description="Passages embedded and written together, inside a shard."
    )


class CacheSettings(Section):
    """Where vectors are kept, so that no text is embedded twice."""

    path: str | None = Field(
        ".squadron/cache",
        json_schema_extra=LOCATION,
        description="A folder or an object store's URI, shared by all workers. Null: no cache.",
    )
    max_age_days: Annotated[float, Field(gt=0)] | None = Field(
        None, description="Vectors written longer ago are removed at the end of a run. Null: kept for ever."
    )


class EvaluationSettings(Section):
    """How a generation is measured, on the corpus's own questions."""

    max_questions: Annotated[int, Field(ge=0)] = Field(
        1000, description="Questions asked, a fixed sample of the corpus's. 0: none."
    )


class GateSettings(Section):
    """What a generation must show before it goes live."""

    approval: bool = Field(False, description="In Airflow, somebody has to approve before a generation goes live.")
    min_recall_at_10: Fraction = Field(0.0, description="Refuse a generation with a lower recall@10.")
    max_drop: Fraction = Field(
        0.05, description="Refuse a generation whose recall@10 is lower than the live one's by more."
    )


class GuardSettings(Section):
    """What a plan may not do without being told to."""

    max_deleted_fraction: Fraction = Field(
        0.25, description="Refuse to delete more than this fraction of the stored documents."
    )
    min_probe_cosine: Fraction = Field(
        0.99, description="Refuse to embed with a model whose vectors of fixed texts differ more from what they were."
    )
    max_quarantined_fraction: Fraction = Field(
        0.05, description="Refuse a corpus of whose rows, or files, more than this fraction cannot be read or embedded."
    )


class QuarantineSettings(Section):
    """Where it is told which rows and passages could not be embedded, and why."""

    path: str | None = Field(
        None,
        json_schema_extra=LOCATION,
        description="A folder or an object store's URI, shared by all workers. Null: `_quarantine` in ingest.staging.",
    )
    max_rows: Annotated[int, Field(ge=1)] = Field(10_000, description="Rows of a collection's table at the most.")


class BudgetSettings(Section):
    """What a run may spend on embedding; more is refused before the first request, and stops the run later."""

    max_tokens: Annotated[int, Field(ge=0)] | None = Field(None, description="Tokens embedded at the most.")
    max_cost_usd: Annotated[float, Field(ge=0)] | None = Field(
        None, description="US dollars spent at the most, by the prices in config/models.toml."
    )


class RetentionSettings(Section):
    """What is kept for rollback."""

    generations: Annotated[int, Field(ge=2)] = Field(
        2, description="Generations kept, the live one and its predecessor always among them."
    )


class Settings(Section):
    """All that a run needs to know; secrets are not among it."""

    collection: Name = Field("squad", description="The logical index that readers know.")
    schedule: str | None = Field(
        "0 3 * * *",
        description="When the DAG runs: a cron expression, @daily or the like, or asset:NAME. Empty: when triggered.",
    )
    deadline_hours: Annotated[float, Field(gt=0)] | None = Field(
        12, description="An alert is raised when a run is not done so long after it was queued. Null: none is."
    )
    source: SourceSettings = SourceSettings()
    passages: PassageSettings = PassageSettings()
    embedding: EmbeddingSettings = EmbeddingSettings()
    store: StoreSettings = StoreSettings()
    ingest: IngestSettings = IngestSettings()
    cache: CacheSettings = CacheSettings()
    evaluation: EvaluationSettings = EvaluationSettings()
    gate: GateSettings = GateSettings()
    guard: GuardSettings = GuardSettings()
    quarantine: QuarantineSettings = QuarantineSettings()
    budget: BudgetSettings = BudgetSettings()
    retention: RetentionSettings = RetentionSettings()

    @model_validator(mode="after")
    def _source_has_what_it_needs(self) -> "Settings":
        if self.source.name == "files" and not self.source.path:
            raise ValueError("source.name is 'files' but source.path is not set: say which files")
        return self

    @model_validator(mode="after")
    def _batches_have_a_cache(self) -> "Settings":
        if self.embedding.service == "openai" and self.embedding.openai.mode == "batch" and not self.cache.path:
            raise ValueError("embedding.openai.mode is 'batch', whose vectors wait in the cache: set cache.path")
        return self


def leaves(model: type[BaseModel] = Settings, prefix: str = "") -> Iterator[tuple[str, FieldInfo]]:
    """Every setting as (dotted key, field), in the order they are written above."""
    for name, field in model.model_fields.items():
        if isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel):
            yield from leaves(field.annotation, f"{prefix}{name}.")
        else:
            yield prefix + name, field


def marked(mark: str) -> dict[str, Any]:
    """The settings that bear a mark in their schema (`location`, `registry`), by dotted key."""
    marks = ((key, (field.json_schema_extra or {})) for key, field in leaves())
    return {key: extra[mark] for key, extra in marks if isinstance(extra, dict) and mark in extra}


def value_of(settings: Settings, key: str) -> Any:
    """The value at a dotted key."""
    value: Any = settings
    for part in key.split("."):
        value = getattr(value, part)
    return value
