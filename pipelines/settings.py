"""Settings: frozen, typed, unknown keys refused; each default stands here and nowhere else."""

import os
import re
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
    model_config = ConfigDict(frozen=True, extra="forbid", protected_namespaces=(), hide_input_in_errors=True)


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
        "squad: a folder with a copy of the data set, or hf://datasets/ORG/NAME, another in its shape.",
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
    backend: Literal["auto", "torch", "openvino"] = Field(
        "auto",
        description="What runs it: openvino, fast on CPUs, for plain BERT models; torch for all. "
        "auto: torch where it has a GPU, else openvino where it can.",
    )
    precision: Literal["auto", "fp32", "bf16", "int8"] = Field(
        "auto",
        description="What it computes in. auto: fp32, or bf16 where the CPU has it (mean cosine to fp32 above "
        "0.9999). int8, coarser: for CPUs without bf16, openvino alone.",
    )
    batch_tokens: PositiveInt | None = Field(
        None, description="Tokens of one model call, padding included. Null: what suits the backend."
    )
    passage_prompt: str | None = Field(
        None, description="Put before every passage, as E5-like models ask. Null: what the model's files say."
    )
    query_prompt: str | None = Field(None, description="Put before every question. Null: what the model's files say.")

    @model_validator(mode="after")
    def _backend_can_do_it(self) -> "SentenceTransformersSettings":
        if self.precision == "int8" and self.backend == "torch":
            raise ValueError("sentence_transformers.precision is 'int8', which the openvino backend alone computes in")
        if self.device in ("cuda", "mps") and (self.backend == "openvino" or self.precision == "int8"):
            raise ValueError(
                f"sentence_transformers.device is {self.device!r}, but OpenVINO runs on the CPU here: "
                "set backend and precision to auto, or device to cpu"
            )
        return self


class OpenAISettings(_Frozen):
    """OpenAI, Azure OpenAI, or a server that speaks as they do. The key is in the environment: OPENAI_API_KEY."""

    model: str = Field("text-embedding-3-small", description="The model's name, as the service knows it.")
    base_url: str = Field(
        "https://api.openai.com/v1",
        description="Where the service is. Another server: vLLM, Ollama, LiteLLM, text-embeddings-inference.",
    )
    fallback_base_urls: tuple[str, ...] = Field(
        (), description="Where else the same model is, for when the first place fails."
    )
    azure_deployment: str | None = Field(
        None, description="A deployment of Azure OpenAI; base_url is its resource, the key is AZURE_OPENAI_API_KEY."
    )
    azure_api_version: str = Field("2024-10-21", description="The version of Azure's API.")
    dimensions: PositiveInt | None = Field(
        None, description="Width of the vectors. Null: the model's own, as config/models.toml says."
    )
    max_tokens: Annotated[int, Field(ge=16)] | None = Field(
        None, description="Tokens that the model reads of one text. Null: as config/models.toml says."
    )
    tokenizer: str | None = Field(
        None, description="The model's tokenizer: a tokenizer.json or a hub id. Null: OpenAI's, or a careful guess."
    )
    passage_prompt: str = Field("", description="Put before every passage, as E5-like models ask.")
    query_prompt: str = Field("", description="Put before every question.")
    batch_texts: Annotated[int, Field(ge=1, le=2048)] = Field(2048, description="Texts of one request.")
    batch_tokens: Annotated[int, Field(ge=1, le=300_000)] = Field(300_000, description="Tokens of one request.")
    concurrency: Annotated[int, Field(ge=1, le=64)] = Field(8, description="Requests in flight at a time.")
    requests_per_minute: PositiveInt | None = Field(None, description="Of one process. Null: no limit of ours.")
    tokens_per_minute: PositiveInt | None = Field(None, description="Of one process. Null: no limit of ours.")
    timeout_seconds: Annotated[float, Field(gt=0)] = Field(60, description="How long to wait for one answer.")
    deadline_seconds: Annotated[float, Field(gt=0)] = Field(
        600, description="How long to try again while the service answers nothing but failures that may pass."
    )


class CohereSettings(_Frozen):
    """Cohere. The key is in the environment: CO_API_KEY."""

    model: str = Field("embed-v4.0", description="The model's name, as the service knows it.")
    base_url: str = Field("https://api.cohere.com", description="Where the service is.")
    fallback_base_urls: tuple[str, ...] = Field(
        (), description="Where else the same model is, for when the first place fails."
    )
    dimensions: PositiveInt | None = Field(
        None, description="Width of the vectors. Null: the model's own, as config/models.toml says."
    )
    max_tokens: Annotated[int, Field(ge=16)] | None = Field(
        None, description="Tokens that the model reads of one text. Null: as config/models.toml says."
    )
    tokenizer: str | None = Field(
        None,
        description="The model's tokenizer: a tokenizer.json or a hub id. Null: BERT's for English models, else "
        "a careful guess.",
    )
    batch_texts: Annotated[int, Field(ge=1, le=96)] = Field(96, description="Texts of one request.")
    concurrency: Annotated[int, Field(ge=1, le=64)] = Field(8, description="Requests in flight at a time.")
    requests_per_minute: PositiveInt | None = Field(None, description="Of one process. Null: no limit of ours.")
    texts_per_minute: PositiveInt | None = Field(
        2000, description="Of one process. A production key may send 2,000. Null: no limit of ours."
    )
    tokens_per_minute: PositiveInt | None = Field(None, description="Of one process. Null: no limit of ours.")
    timeout_seconds: Annotated[float, Field(gt=0)] = Field(60, description="How long to wait for one answer.")
    deadline_seconds: Annotated[float, Field(gt=0)] = Field(
        600, description="How long to try again while the service answers nothing but failures that may pass."
    )


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
    openai: OpenAISettings = OpenAISettings()
    cohere: CohereSettings = CohereSettings()
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


class WeaviateSettings(_Frozen):
    """A Weaviate server. Its key, if it wants one, is the variable WEAVIATE_API_KEY of the environment."""

    uri: str = Field("http://127.0.0.1:8080", description="The server's address.")
    grpc_host: str | None = Field(
        None, description="Where it answers gRPC. Null: the host of the address, in Weaviate Cloud `grpc-` before it."
    )
    grpc_port: Annotated[int, Field(ge=1, le=65_535)] | None = Field(
        None, description="The port for gRPC. Null: 50051, with an https address 443."
    )
    concurrency: Annotated[int, Field(ge=1, le=64)] = Field(4, description="Requests under way at once.")
    timeout_seconds: Annotated[float, Field(gt=0)] = Field(60, description="How long one request may take.")
    max_retries: Annotated[int, Field(ge=0, le=20)] = Field(
        5, description="How often a request is repeated that failed for a reason that may pass."
    )


class PineconeSettings(_Frozen):
    """A service. Its key is in the environment variable PINECONE_API_KEY."""

    index: Annotated[str, StringConstraints(pattern=r"^[a-z0-9]([a-z0-9-]{0,26}[a-z0-9])?$")] = Field(
        "squadron",
        description="How the names of the indexes begin: <index>-<dimension>-<metric>, created when absent.",
    )
    host: str | None = Field(None, description="The address of one index, or of a local server, to use instead.")
    cloud: str = Field("aws", description="Where indexes are created: aws, gcp or azure.")
    region: str = Field("us-east-1", description="Where in that cloud.")
    concurrency: Annotated[int, Field(ge=1, le=64)] = Field(8, description="Requests in flight at a time.")
    max_retries: Annotated[int, Field(ge=0, le=20)] = Field(
        5, description="How often a request is repeated while the service is busy or cannot be reached."
    )
    timeout_seconds: Annotated[float, Field(gt=0)] = Field(30, description="How long one request may take.")
    consistency_seconds: Annotated[float, Field(gt=0)] = Field(
        60, description="How long to wait until searches and counts show what was written."
    )


class PgvectorSettings(_Frozen):
    """A Postgres database with the vector extension. Its password is in the environment, PGPASSWORD, or ~/.pgpass."""

    uri: str = Field("postgresql://postgres@127.0.0.1:5432/postgres", description="The database, without a password.")
    schema_name: Name = Field("squadron", description="The schema that holds everything, created when absent.")
    index_min_rows: PositiveInt = Field(
        50_000, description="Rows from which a vector index is built. Below, search is exact."
    )

    @model_validator(mode="after")
    def _uri_bears_no_password(self) -> "PgvectorSettings":
        if not re.match(r"postgres(ql)?://", self.uri):
            raise ValueError("store.pgvector.uri: wanted postgresql://USER@HOST:PORT/DATABASE")
        if re.search(r"://[^@/?#]*:[^@]+@|password=", self.uri):
            raise ValueError("store.pgvector.uri bears a password: take it out, and set PGPASSWORD or ~/.pgpass")
        return self


class StoreSettings(_Frozen):
    """Which store holds the vectors, and where. One section per store."""

    name: str = Field("lancedb", description="The vector store.", json_schema_extra={"registry": "stores"})
    metric: Literal["cosine", "dot", "l2"] = Field("cosine", description="How nearness is measured.")
    lancedb: LanceDBSettings = LanceDBSettings()
    pgvector: PgvectorSettings = PgvectorSettings()
    pinecone: PineconeSettings = PineconeSettings()
    weaviate: WeaviateSettings = WeaviateSettings()


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
        2_048, description="Passages embedded and written together, inside a shard."
    )


class CacheSettings(_Frozen):
    """Where vectors are kept, so that no text is embedded twice."""

    path: str | None = Field(
        ".squadron/cache",
        json_schema_extra=_LOCATION,
        description="A folder or an object store's URI, shared by all workers. Null: no cache.",
    )
    max_age_days: Annotated[float, Field(gt=0)] | None = Field(
        None, description="Vectors written longer ago are removed at the end of a run. Null: kept for ever."
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


class BudgetSettings(_Frozen):
    """What a run may spend on embedding; more is refused before the first request."""

    max_tokens: Annotated[int, Field(ge=0)] | None = Field(None, description="Tokens embedded at the most.")
    max_cost_usd: Annotated[float, Field(ge=0)] | None = Field(
        None, description="US dollars spent at the most, by the prices in config/models.toml."
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
    cache: CacheSettings = CacheSettings()
    evaluation: EvaluationSettings = EvaluationSettings()
    gate: GateSettings = GateSettings()
    guard: GuardSettings = GuardSettings()
    budget: BudgetSettings = BudgetSettings()
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
