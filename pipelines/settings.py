"""Settings: frozen, typed, unknown keys refused; each default stands here and nowhere else."""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, JsonValue, PositiveInt, StringConstraints, model_validator
from pydantic.fields import FieldInfo

Name = Annotated[str, StringConstraints(pattern=r"^[a-z][a-z0-9_]{0,47}$")]
ColumnName = Annotated[str, StringConstraints(pattern=r"^[A-Za-z][A-Za-z0-9_]{0,62}$")]
Fraction = Annotated[float, Field(ge=0, le=1)]
# A local path or an fsspec URI. A relative path is taken from the place that set it.
_LOCATION: dict[str, JsonValue] = {"location": True}
_RESERVED_COLUMNS = {"id", "document_id", "title", "ordinal", "text", "tokens", "vector", "digest", "rank", "score"} | {
    "question",
    "question_id",
    "query",
}


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", protected_namespaces=())


class ColumnSettings(_Frozen):
    """Which columns of a file hold what. The defaults are those of `rajpurkar/squad`."""

    text: str = Field("context", description="The text to embed.")
    title: str | None = Field("title", description="A title, stored and put before the text by the template.")
    document_id: str | None = Field(None, description="A unique id. Without one, a document is its title and text.")
    question: str | None = Field("question", description="A question that the row's document answers.")
    question_id: str | None = Field("id", description="The question's id.")
    metadata: tuple[ColumnName, ...] = Field((), description="More columns to store, and to filter searches by.")

    @model_validator(mode="after")
    def _metadata_names_are_free(self) -> "ColumnSettings":
        if taken := sorted(_RESERVED_COLUMNS & set(self.metadata)):
            raise ValueError(
                f"source.columns.metadata names {', '.join(taken)}, which Squadron uses itself: rename them"
            )
        if len(set(self.metadata)) < len(self.metadata):
            raise ValueError(f"source.columns.metadata names a column twice: {', '.join(self.metadata)}")
        return self


class SourceSettings(_Frozen):
    """Where the corpus comes from."""

    name: str = Field("squad", description="The source module.", json_schema_extra={"registry": "sources"})
    path: str | None = Field(
        None,
        json_schema_extra=_LOCATION,
        description="files: path, glob or URI of parquet, JSONL, CSV or SQuAD JSON. "
        "squad: a local copy of the data set or another data set in its shape.",
    )
    split: str = Field("train", description="squad: the split to load.")
    revision: str | None = Field(None, description="squad: commit, tag or branch of the data set.")
    limit: PositiveInt | None = Field(None, description="Stop after this many documents.")
    columns: ColumnSettings = ColumnSettings()


class PassageSettings(_Frozen):
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


class SentenceTransformersSettings(_Frozen):
    """A sentence-transformers model in this process."""

    model: str = Field(
        "sentence-transformers/all-MiniLM-L6-v2",
        description="A hub id or a local folder. The default needs no hub: a package carries it.",
    )
    revision: str | None = Field(None, description="Commit, tag or branch of a hub model.")
    device: Literal["auto", "cpu", "cuda", "mps"] = Field("auto", description="Where the model runs.")
    batch_tokens: PositiveInt = Field(4096, description="Tokens of one model call, padding included.")
    passage_prompt: str | None = Field(
        None, description="Put before every passage, as E5-like models ask. Null: what the model's files say."
    )
    query_prompt: str | None = Field(None, description="Put before every question. Null: what the model's files say.")


class HashingSettings(_Frozen):
    """Hashed words, no model: for tests and demonstrations, not for search quality."""

    dimension: Annotated[int, Field(ge=8, le=4096)] = Field(256, description="Width of the vectors.")
    max_tokens: Annotated[int, Field(ge=16)] = Field(512, description="Words of one passage.")


class EmbeddingSettings(_Frozen):
    """Which service embeds, and how. One section per service."""

    service: str = Field(
        "sentence_transformers",
        description="The embedding service.",
        json_schema_extra={"registry": "embeddings"},
    )
    sentence_transformers: SentenceTransformersSettings = SentenceTransformersSettings()
    hashing: HashingSettings = HashingSettings()


class LanceDBSettings(_Frozen):
    """A directory of tables, no server."""

    uri: str = Field(
        ".squadron/lancedb",
        json_schema_extra=_LOCATION,
        description="A folder, or an object store's URI (s3://, gs://, az://).",
    )
    index_min_rows: PositiveInt = Field(
        50_000, description="Rows from which a vector index is built. Below, search is exact."
    )


class StoreSettings(_Frozen):
    """Which store holds the vectors, and where. One section per store."""

    name: str = Field("lancedb", description="The vector store.", json_schema_extra={"registry": "stores"})
    metric: Literal["cosine", "dot", "l2"] = Field("cosine", description="How nearness is measured.")
    lancedb: LanceDBSettings = LanceDBSettings()


class IngestSettings(_Frozen):
    """How the work is cut."""

    staging: str = Field(
        ".squadron/staging",
        json_schema_extra=_LOCATION,
        description="Where plans and shards wait; shared by all workers.",
    )
    shard_passages: Annotated[int, Field(ge=1)] = Field(
        16_384, description="Passages of one shard, the unit that Airflow maps over."
    )
    batch_passages: Annotated[int, Field(ge=1, le=65_536)] = Field(
        512, description="Passages embedded and written together, inside a shard."
    )


class EvaluationSettings(_Frozen):
    """How a generation is measured, on the corpus's own questions."""

    max_questions: Annotated[int, Field(ge=0)] = Field(
        1000, description="Questions asked, a fixed sample of the corpus's. 0: none."
    )


class GateSettings(_Frozen):
    """What a generation must reach before it goes live."""

    min_recall_at_10: Fraction = Field(0.0, description="Refuse a generation with a lower recall@10.")
    max_drop: Fraction = Field(
        0.05, description="Refuse a generation whose recall@10 is lower than the live one's by more."
    )


class GuardSettings(_Frozen):
    """What a plan may not do without being told to."""

    max_deleted_fraction: Fraction = Field(
        0.25, description="Refuse to delete more than this fraction of the stored documents."
    )
    max_quarantined_fraction: Fraction = Field(
        0.05, description="Refuse a corpus of which more than this fraction cannot be embedded."
    )


class RetentionSettings(_Frozen):
    """What is kept for rollback."""

    generations: Annotated[int, Field(ge=2)] = Field(
        2, description="Generations kept, the live one and its predecessor always among them."
    )


class Settings(_Frozen):
    """All that a run needs to know; secrets are not among it."""

    collection: Name = Field("squad", description="The logical index that readers know.")
    schedule: str | None = Field("0 3 * * *", description="Cron expression of the DAG. Null: no schedule.")
    source: SourceSettings = SourceSettings()
    passages: PassageSettings = PassageSettings()
    embedding: EmbeddingSettings = EmbeddingSettings()
    store: StoreSettings = StoreSettings()
    ingest: IngestSettings = IngestSettings()
    evaluation: EvaluationSettings = EvaluationSettings()
    gate: GateSettings = GateSettings()
    guard: GuardSettings = GuardSettings()
    retention: RetentionSettings = RetentionSettings()

    @model_validator(mode="after")
    def _source_has_what_it_needs(self) -> "Settings":
        if self.source.name == "files" and not self.source.path:
            raise ValueError("source.name is 'files' but source.path is not set: say which files")
        return self


def home() -> Path:
    """The project's folder: what relative paths of `config/` start from. `SQUADRON_HOME` moves it."""
    return Path(os.environ.get("SQUADRON_HOME") or Path(__file__).resolve().parents[1])


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
