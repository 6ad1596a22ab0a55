"""Settings of the embedding services: one section each. Secrets are not among them."""

from typing import Annotated, Literal

from pydantic import Field, PositiveInt, model_validator

from squadron.settings.types import ADDRESS, Section


class SentenceTransformersSettings(Section):
    """A sentence-transformers model in this process."""

    model: str = Field(
        "sentence-transformers/all-MiniLM-L6-v2",
        description="A hub id or a local folder. The default needs no hub: a package carries it.",
    )
    revision: str | None = Field(None, description="Commit, tag or branch of a hub model.")
    device: Literal["auto", "cpu", "cuda", "mps"] = Field("auto", description="Where the model runs.")
    backend: Literal["auto", "torch", "openvino"] = Field(
        "auto",
        description="What runs it: openvino, fast on CPUs, for plain BERT models; torch for all. auto: torch where it "
        "has a GPU, else openvino where it can.",
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
                f"sentence_transformers.device is {self.device!r}, but OpenVINO runs on the CPU here: set "
                "backend and precision to auto, or device to cpu"
            )
        return self


class OpenAISettings(Section):
    """OpenAI, Azure OpenAI, or a server that speaks as they do. The key is in the environment: OPENAI_API_KEY."""

    model: str = Field("text-embedding-3-small", description="The model's name, as the service knows it.")
    base_url: str = Field(
        "https://api.openai.com/v1",
        json_schema_extra=ADDRESS,
        description="Where the service is. Another server: vLLM, Ollama, LiteLLM, text-embeddings-inference.",
    )
    fallback_base_urls: tuple[str, ...] = Field(
        (),
        json_schema_extra=ADDRESS,
        description="Where else the same model is, for when the first place fails.",
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
    mode: Literal["sync", "batch"] = Field(
        "sync",
        description="sync: passages are embedded at once. batch: by OpenAI's Batch API, within a day, at half the "
        "price; it wants cache.path.",
    )
    batch_poll_seconds: Annotated[float, Field(gt=0, le=3600)] = Field(
        60, description="mode batch: how often to ask whether a batch is done."
    )
    batch_texts: Annotated[int, Field(ge=1, le=2048)] = Field(2048, description="Texts of one request.")
    batch_tokens: Annotated[int, Field(ge=1, le=300_000)] = Field(300_000, description="Tokens of one request.")
    concurrency: Annotated[int, Field(ge=1, le=64)] = Field(8, description="Requests in flight at a time.")
    requests_per_minute: PositiveInt | None = Field(None, description="Of one process. Null: no limit of ours.")
    tokens_per_minute: PositiveInt | None = Field(None, description="Of one process. Null: no limit of ours.")
    timeout_seconds: Annotated[float, Field(gt=0)] = Field(60, description="How long to wait for one answer.")
    deadline_seconds: Annotated[float, Field(gt=0)] = Field(
        600, description="How long to try again while the service answers nothing but failures that may pass."
    )

    @model_validator(mode="after")
    def _batches_are_openai_s(self) -> "OpenAISettings":
        if self.mode == "batch" and self.azure_deployment:
            raise ValueError(
                "embedding.openai.mode is 'batch', and Azure's batches are not OpenAI's: unset azure_deployment, or "
                "set mode to sync"
            )
        return self


class CohereSettings(Section):
    """Cohere. The key is in the environment: CO_API_KEY."""

    model: str = Field("embed-v4.0", description="The model's name, as the service knows it.")
    base_url: str = Field("https://api.cohere.com", json_schema_extra=ADDRESS, description="Where the service is.")
    fallback_base_urls: tuple[str, ...] = Field(
        (),
        json_schema_extra=ADDRESS,
        description="Where else the same model is, for when the first place fails.",
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


class HashingSettings(Section):
    """Hashed words, no model: for tests and demonstrations, not for search quality."""

    dimension: Annotated[int, Field(ge=8, le=4096)] = Field(256, description="Width of the vectors.")
    max_tokens: Annotated[int, Field(ge=16)] = Field(512, description="Words of one passage.")


class EmbeddingSettings(Section):
    """Which service embeds, and how. One section per service."""

    service: str = Field(
        "sentence_transformers",
        description="The embedding service.",
        json_schema_extra={"registry": "embeddings"},
    )
    variant: str | None = Field(
        None,
        description="Any text; another one begins another generation. For a service that changed its model, and "
        "kept the model's name.",
    )
    sentence_transformers: SentenceTransformersSettings = SentenceTransformersSettings()
    openai: OpenAISettings = OpenAISettings()
    cohere: CohereSettings = CohereSettings()
    hashing: HashingSettings = HashingSettings()

    @property
    def in_batches(self) -> bool:
        """Whether passages are embedded by OpenAI's Batch API."""
        return self.service == "openai" and self.openai.mode == "batch"
