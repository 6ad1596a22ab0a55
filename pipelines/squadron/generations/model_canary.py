"""Canary: fixed texts whose vectors every generation remembers, to notice a model that changed under its name.

Services replace models without a new name, and local caches get mixed up. Vectors of two models in one index are
found by no search, and no error says so. Therefore the same few texts are embedded before each run that writes
vectors, or that asks a service, and compared with what they were when the generation began.
"""

from base64 import b64decode, b64encode

import numpy as np

from squadron.dataflow.driver import Graph
from squadron.errors import GuardError
from squadron.generations.record import GenerationRecord
from squadron.settings.schema import Settings

# In several languages and registers; never to be changed, for generations remember their vectors.
TEXTS = (
    "The bridge was opened in 1932 and carries eight lanes of traffic across the harbour.",
    "La fotosíntesis convierte la luz del sol en energía química que alimenta a las plantas.",
    "def total(prices: list[float]) -> float:\n    return sum(prices)",
)


def probe_vectors(graph: Graph) -> np.ndarray:
    """`float32 [texts, dimension]`: the fixed texts, embedded now, as passages are. No cache is asked."""
    graph.kept("model")
    vectors: np.ndarray = graph.value("embeddings", embedding_texts=list(TEXTS))
    return vectors


def remembered(vectors: np.ndarray) -> str:
    """The vectors as a generation's description keeps them: float16, which moves a cosine by less than 1e-6."""
    return b64encode(vectors.astype(np.float16).tobytes()).decode()


def checked_model(settings: Settings, graph: Graph, record: GenerationRecord) -> str:
    """What the generation of this record is to remember; it has checked the model when it remembers already.

    Raises GuardError as `check_model` does, EmbeddingError when the service does not answer.
    """
    vectors = probe_vectors(graph)
    if record.canary is not None:
        check_model(settings, vectors, record)
    return remembered(vectors)


def check_model(settings: Settings, vectors: np.ndarray, record: GenerationRecord) -> float:
    """The lowest cosine of the fixed texts' vectors to those that the generation of this record remembers.

    Raises GuardError when it is below `guard.min_probe_cosine`.
    """
    stored = np.frombuffer(b64decode(record.canary or ""), np.float16).reshape(len(TEXTS), -1).astype(np.float32)
    if stored.shape != vectors.shape:
        raise GuardError(f"{_model(settings)} gives {vectors.shape[1]} dimensions, it gave {stored.shape[1]} before")
    lengths = np.linalg.norm(stored, axis=1) * np.linalg.norm(vectors, axis=1)
    lowest = float(((stored * vectors).sum(axis=1) / lengths).min())
    if not lowest >= settings.guard.min_probe_cosine:
        raise GuardError(
            f"{_model(settings)} is not the model that made this generation ({record.created_at or 'earlier'}): "
            f"fixed texts have cosine {lowest:.4f} to what they were, guard.min_probe_cosine wants "
            f"{settings.guard.min_probe_cosine:g}. Nothing was embedded. If the change is to stay, set "
            "embedding.variant to a text of your own: that begins a new generation beside this one"
        )
    return lowest


def _model(settings: Settings) -> str:
    service = settings.embedding.service
    return f"{service} {getattr(getattr(settings.embedding, service), 'model', '')}".strip()
