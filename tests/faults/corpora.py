"""Corpora of the fault tests: one that is live, one that the faulty run is to follow, and what a clean build holds."""

from pathlib import Path
from typing import Any

from squadron.generations.search import search
from squadron.runs.whole_run import ingest
from squadron.settings.layers import Layer, resolve
from squadron.settings.schema import Settings
from tests.whole_runs import numbered, stored_rows, write_corpus

BEFORE, AFTER = range(60), range(10, 150)
SHARD_PASSAGES = 60
QUESTION, ANSWER = "Which thing has the size30 and the colour30?", "doc-00030"
"""What both corpora answer."""


def settings_of(folder: Path, numbers: range, **changes: Any) -> Settings:
    """Settings of these documents, hashed words and LanceDB, all below the folder. Takes changes by dotted key."""
    values: dict[str, Any] = {
        **write_corpus(folder / "corpus.jsonl", numbered(*numbers)),
        "collection": "books",
        "embedding.service": "hashing",
        "store.lancedb.uri": "lancedb",
        "ingest.staging": "staging",
        "ingest.shard_passages": SHARD_PASSAGES,
        "cache.path": "cache",
    }
    return resolve([Layer("test", values | changes, folder)]).settings


def answers(settings: Settings) -> bool:
    """Whether the live generation finds what it is asked for."""
    return search(settings, QUESTION, top_k=1)[0]["document_id"] == ANSWER


def clean_rows(folder: Path, numbers: range, **changes: Any) -> dict[str, dict[str, Any]]:
    """What a first, undisturbed run of these documents stores, in a folder of its own."""
    place = folder / "clean"
    place.mkdir()
    settings = settings_of(place, numbers, **changes)
    return stored_rows(settings, ingest(settings)["generation"])
