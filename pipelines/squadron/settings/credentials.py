"""Credentials: which secret each backend wants, by the name its own client library reads.

Secrets live in the environment, or in Airflow Connections, from which the DAG's tasks put them there. They are
never settings.
"""

from dataclasses import dataclass

from squadron.settings.schema import Settings


@dataclass(frozen=True)
class Credential:
    """A secret: the environment variable that holds it, and the Airflow Connection that may."""

    variable: str
    connection: str


CREDENTIALS = {
    "openai": Credential("OPENAI_API_KEY", "openai_default"),
    "azure_openai": Credential("AZURE_OPENAI_API_KEY", "openai_default"),
    "cohere": Credential("CO_API_KEY", "cohere_default"),
    "pinecone": Credential("PINECONE_API_KEY", "pinecone_default"),
    "weaviate": Credential("WEAVIATE_API_KEY", "weaviate_default"),
    "pgvector": Credential("PGPASSWORD", "postgres_default"),
}


def is_remote(settings: Settings) -> bool:
    """Whether the embedding service is one that is asked over a network, with a key."""
    return settings.embedding.service in CREDENTIALS


def required_credentials(settings: Settings) -> list[Credential]:
    """The credentials of the configured backends."""
    service = settings.embedding.service
    if service == "openai" and settings.embedding.openai.azure_deployment:
        service = "azure_openai"
    return [CREDENTIALS[name] for name in (service, settings.store.name) if name in CREDENTIALS]
