"""Which backends exist: name -> module, as strings; a module is imported when it is used."""

import difflib
from collections.abc import Iterable
from importlib import import_module
from types import ModuleType

from squadron.errors import SettingsError

SOURCES = {
    "squad": "squadron.sources.squad_source",
    "files": "squadron.sources.files_source",
    "sample": "squadron.sources.sample_source",
}
EMBEDDINGS = {
    "sentence_transformers": "squadron.embeddings.sentence_transformers_embeddings",
    "openai": "squadron.embeddings.openai_embeddings",
    "cohere": "squadron.embeddings.cohere_embeddings",
    "hashing": "squadron.embeddings.hashing_embeddings",
}
STORES = {
    "lancedb": "squadron.stores.lancedb.store",
    "pgvector": "squadron.stores.pgvector.store",
    "pinecone": "squadron.stores.pinecone.store",
    "weaviate": "squadron.stores.weaviate.store",
}
REGISTRIES = {"sources": SOURCES, "embeddings": EMBEDDINGS, "stores": STORES}


def load(registry: str, name: str) -> ModuleType:
    """The module of a backend.

    Raises SettingsError when no such backend is registered, or when the package it needs is not installed.
    """
    modules = REGISTRIES[registry]
    if name not in modules:
        raise SettingsError(unknown(f"one of the {registry}", name, modules))
    try:
        return import_module(modules[name])
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] == "squadron":
            raise
        raise SettingsError(
            f"{name!r} of the {registry} needs the package {error.name!r}, which is not installed: "
            "install requirements.txt"
        ) from error


def unknown(what: str, found: str, choices: Iterable[str], nearest_of: Iterable[str] = ()) -> str:
    """The message for a name that does not exist: what was found, the nearest that does, the choices."""
    names = sorted(choices)
    nearest = difflib.get_close_matches(found, [*names, *nearest_of], n=1, cutoff=0.5)
    hint = f", did you mean {nearest[0]!r}?" if nearest else ":"
    return f"{found!r} is not {what}{hint} choose from {', '.join(names)}"
