"""Settings of the vector stores: one section each. Secrets are not among them."""

import re
from typing import Annotated, Literal

from pydantic import Field, PositiveInt, StringConstraints, model_validator

from squadron.settings.addresses import bears_secret
from squadron.settings.types import ADDRESS, LOCATION, Fraction, Name, Section

Deadline = Annotated[float, Field(gt=0, le=3600)]
DEADLINE = Field(
    120,
    description="For how long a request is repeated that fails for a reason that may pass: the store is away, or busy.",
)
Retries = Annotated[int, Field(ge=0, le=100)] | None
RETRIES = Field(None, description="How often at most it is repeated within that time. Null: any number of times.")


class LanceDBSettings(Section):
    """A directory of tables, no server."""

    uri: str = Field(
        ".squadron/lancedb",
        json_schema_extra=LOCATION,
        description="A folder, an object store's URI (s3://, gs://, az://), or an Airflow Connection, connection://NAME.",
    )
    index_min_rows: PositiveInt = Field(
        50_000, description="Rows from which a vector index is built. Below, search is exact."
    )
    index_min_recall: Fraction = Field(
        0.95, description="Of what exact search finds, the share that the index must find; else it is dropped."
    )

    @property
    def address(self) -> str:
        """Where it is, for messages."""
        return self.uri


class WeaviateSettings(Section):
    """A Weaviate server. Its key, if it wants one, is the variable WEAVIATE_API_KEY of the environment."""

    uri: str = Field("http://127.0.0.1:8080", json_schema_extra=ADDRESS, description="The server's address.")
    grpc_host: str | None = Field(
        None,
        json_schema_extra=ADDRESS,
        description="Where it answers gRPC. Null: the host of the address, in Weaviate Cloud `grpc-` before it.",
    )
    grpc_port: Annotated[int, Field(ge=1, le=65_535)] | None = Field(
        None, description="The port for gRPC. Null: 50051, with an https address 443."
    )
    concurrency: Annotated[int, Field(ge=1, le=64)] = Field(4, description="Requests under way at once.")
    timeout_seconds: Annotated[float, Field(gt=0)] = Field(60, description="How long one request may take.")
    deadline_seconds: Deadline = DEADLINE
    max_retries: Retries = RETRIES

    @property
    def address(self) -> str:
        """Where it is, for messages."""
        return self.uri


class PineconeSettings(Section):
    """A service. Its key is in the environment variable PINECONE_API_KEY."""

    index: Annotated[str, StringConstraints(pattern=r"^[a-z0-9]([a-z0-9-]{0,26}[a-z0-9])?$")] = Field(
        "squadron",
        description="How the names of the indexes begin: <index>-<dimension>-<metric>, created when absent.",
    )
    host: str | None = Field(
        None,
        json_schema_extra=ADDRESS,
        description="The address of one index, or of a local server, to use instead.",
    )
    cloud: str = Field("aws", description="Where indexes are created: aws, gcp or azure.")
    region: str = Field("us-east-1", description="Where in that cloud.")
    concurrency: Annotated[int, Field(ge=1, le=64)] = Field(8, description="Requests in flight at a time.")
    deadline_seconds: Deadline = DEADLINE
    max_retries: Retries = RETRIES
    timeout_seconds: Annotated[float, Field(gt=0)] = Field(30, description="How long one request may take.")
    consistency_seconds: Annotated[float, Field(gt=0)] = Field(
        60, description="How long to wait until searches and counts show what was written."
    )

    @property
    def address(self) -> str:
        """Where it is, for messages."""
        return self.host or f"{self.index}-<dimension>-<metric>"


class PgvectorSettings(Section):
    """A Postgres database with the vector extension. Its password is in the environment, PGPASSWORD, or ~/.pgpass."""

    uri: str = Field(
        "postgresql://postgres@127.0.0.1:5432/postgres",
        json_schema_extra=ADDRESS,
        description="The database, without a password.",
    )
    schema_name: Name = Field("squadron", description="The schema that holds everything, created when absent.")
    deadline_seconds: Deadline = DEADLINE
    index_min_rows: PositiveInt = Field(
        50_000, description="Rows from which a vector index is built. Below, search is exact."
    )

    @model_validator(mode="after")
    def _uri_bears_no_password(self) -> "PgvectorSettings":
        if not re.match(r"postgres(ql)?://", self.uri):
            raise ValueError("store.pgvector.uri: wanted postgresql://USER@HOST:PORT/DATABASE")
        if bears_secret(self.uri):
            raise ValueError("store.pgvector.uri bears a password: take it out, and set PGPASSWORD or ~/.pgpass")
        return self

    @property
    def address(self) -> str:
        """Where it is, for messages."""
        return f"{self.uri}, schema {self.schema_name}"


class StoreSettings(Section):
    """Which store holds the vectors, and where. One section per store."""

    name: str = Field("lancedb", description="The vector store.", json_schema_extra={"registry": "stores"})
    metric: Literal["cosine", "dot", "l2"] = Field("cosine", description="How nearness is measured.")
    lancedb: LanceDBSettings = LanceDBSettings()
    pgvector: PgvectorSettings = PgvectorSettings()
    pinecone: PineconeSettings = PineconeSettings()
    weaviate: WeaviateSettings = WeaviateSettings()


def hurried(store: StoreSettings, deadline_seconds: float) -> StoreSettings:
    """The same store, given up sooner: for whoever has a person waiting."""
    section = getattr(store, store.name)
    if "deadline_seconds" not in type(section).model_fields:
        return store
    seconds = min(section.deadline_seconds, deadline_seconds)
    return store.model_copy(update={store.name: section.model_copy(update={"deadline_seconds": seconds})})
