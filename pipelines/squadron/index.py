"""Index: what an application imports to ask a collection."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from threading import Lock

from squadron.settings.home import home_at
from squadron.settings.layers import Layer, resolve

_one_search = Lock()
"""Collections of equal settings share a graph, with its client and its model: one thread at a time uses it."""


@dataclass(frozen=True)
class Match:
    """A passage that answers a question."""

    rank: int
    """1 for the nearest."""
    passage_id: str
    document_id: str
    title: str
    text: str
    score: float
    """Higher is nearer: cosine similarity, inner product, or minus the squared distance, by `store.metric`."""
    metadata: dict[str, str | None]
    """The values of `source.columns.metadata`."""


class Index:
    """A collection, to be asked: answers come from the generation that is live at that moment.

        from squadron import Index

        tickets = Index("tickets")
        for match in tickets.search("How do I reset my password?", top_k=3, filter={"product": "mail"}):
            print(match.rank, match.title, match.metadata["product"])

    It may be shared by threads; their searches follow each other. Model and connection are loaded by the first search
    and kept, so keep the Index as well. Secrets come from the environment, as on the command line.

    Parameters:
        collection: the name that it was ingested by; settings are read from `config/<collection>.toml`, if it exists.
        home: the folder that holds that `config/`, and below which the index lies by default (`.squadron/lancedb`).
            None: SQUADRON_HOME, or what else the command line takes (`squadron.settings.home`).
        settings: settings that win over the file's, by dotted key: `{"store.lancedb.uri": "/srv/index"}`. Relative
            paths start from the working directory. What defines the vectors is not needed: it is recorded with them.

    Raises SettingsError when a setting is unknown or not valid. All errors are SquadronErrors (`squadron.errors`).
    """

    def __init__(
        self,
        collection: str,
        *,
        home: str | Path | None = None,
        settings: Mapping[str, object] | None = None,
    ) -> None:
        self._home = Path(home) if home is not None else None
        layer = Layer("Index", {**(settings or {}), "collection": collection}, Path.cwd())
        with home_at(self._home):
            self._settings = resolve([layer]).settings

    def __repr__(self) -> str:
        return f"Index({self._settings.collection!r})"

    def search(self, question: str, *, top_k: int = 5, filter: Mapping[str, str] | None = None) -> list[Match]:
        """The passages nearest to the question, the nearest first.

        Parameters:
            question: what to look for; it is embedded as the passages were.
            top_k: how many passages at the most.
            filter: only passages whose columns have these values: `document_id`, `title`, metadata columns.

        Raises StoreError when there is no live generation, naming the place that was looked in, when the store cannot
        be reached, or has no such column; EmbeddingError when the service cannot embed the question.
        """
        from squadron.generations.search import search  # the backends, when the first question comes

        if top_k < 1:
            raise ValueError(f"top_k is {top_k}: ask for 1 or more")
        with _one_search, home_at(self._home):
            found = search(self._settings, question, top_k, dict(filter or {}))
        return [Match(**match) for match in found]
