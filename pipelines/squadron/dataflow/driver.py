"""The graph: one Hamilton driver over the dataflow and the configured backends."""

import difflib
import gc
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from functools import lru_cache
from pathlib import Path
from typing import Any

from squadron.dataflow import changes, cuts, documents, evaluation, passages, records
from squadron.dataflow.node_spans import node_spans
from squadron.errors import SettingsError
from squadron.process.hamilton_runtime import driver
from squadron.process.heap import bound_heap
from squadron.settings.registry import load
from squadron.settings.schema import Settings
from squadron.stores import side_effects

KEPT = frozenset({"client", "device", "dimension", "model", "passage_tokens", "tokenizer", "vector_space"})
"""Nodes whose values stay, once something has asked for them."""


class Graph:
    """A Hamilton driver for one Settings, and the values that are made once: client, tokenizer, model."""

    def __init__(self, settings: Settings) -> None:
        self._driver = build_driver(settings)
        variables = self._driver.list_available_variables()
        self._nodes = {node.name for node in variables if not node.is_external_input}
        self._inputs = inputs(settings)
        self._names = {node.name for node in variables} | self._inputs.keys()
        self._kept: dict[str, Any] = {}
        self._begun: dict[str, Future[dict[str, Any]]] = {}
        if not gc.get_freeze_count():  # once: what was imported by now stays, and costs each look at it 0.08 s
            gc.freeze()

    def begin_model(self) -> None:
        """Load the model in a thread, while this one goes on.

        For whoever knows that a model will be asked for: `kept("model")` waits for it. What goes wrong in the thread
        goes wrong again, and is raised, where the model is asked for.
        """
        if "model" in self._kept or "model" in self._begun:
            return
        thread = ThreadPoolExecutor(1, "model")
        self._begun["model"] = thread.submit(self.values, ["model", "device"])
        thread.shutdown(wait=False)

    def value(self, node: str, **given: Any) -> Any:
        """The value of one node. `given` are inputs, or values of nodes that are not to be computed."""
        return self.values([node], **given)[node]

    def values(self, nodes: Sequence[str], **given: Any) -> dict[str, Any]:
        """The values of several nodes, each node upstream computed once.

        Raises TypeError for a name that is neither a node nor an input: Hamilton itself would pass over it silently.
        """
        if foreign := sorted(given.keys() - self._names):
            nearest = difflib.get_close_matches(foreign[0], self._names, n=1)
            hint = f", did you mean {nearest[0]!r}?" if nearest else ""
            raise TypeError(f"{foreign[0]!r} is neither a node nor an input of the graph{hint}")
        overrides = self._kept | {name: value for name, value in given.items() if name in self._nodes}
        inputs = self._inputs | {name: value for name, value in given.items() if name not in self._nodes}
        try:
            values: dict[str, Any] = self._driver.execute(list(nodes), inputs=inputs, overrides=overrides)
        finally:
            gc.collect(1)  # Hamilton leaves all values of an execution in reference cycles: tables, vectors
        if not given:
            self._kept |= {name: value for name, value in values.items() if name in KEPT}
        return values

    def kept(self, node: str) -> Any:
        """The value of one of the nodes in KEPT: computed when it is first asked for."""
        self.keep(node)
        return self._kept[node]

    def keep(self, *nodes: str) -> None:
        """Compute nodes of KEPT, those whose values there are not yet, in one execution."""
        for node in nodes:
            if begun := self._begun.pop(node, None):
                begun.exception()  # waits; what went wrong goes wrong again below
        if missing := [node for node in nodes if node not in self._kept]:
            self.values(missing)

    def made(self, node: str) -> Any:
        """The kept value of a node; None as long as nothing has asked for it."""
        return self._kept.get(node)


@lru_cache(maxsize=2)
def shared_graph(settings: Settings) -> Graph:
    """Steps that run in one process share a client, a tokenizer and a model."""
    bound_heap()
    return Graph(settings)


def build_driver(settings: Settings) -> driver.Driver:
    """The driver of the configured backends. Building it loads their modules, but no model and no client."""
    return (
        driver.Builder()
        .with_config({"template": settings.passages.template})
        .with_modules(
            documents,
            changes,
            cuts,
            passages,
            load("embeddings", settings.embedding.service),
            records,
            load("stores", settings.store.name),
            evaluation,
        )
        .with_adapters(*node_spans())
        .build()
    )


def inputs(settings: Settings) -> dict[str, Any]:
    """The settings as the inputs that the nodes name, and inputs that may be absent; none of them is a secret."""
    return {
        "embedding_settings": getattr(settings.embedding, settings.embedding.service),
        "store_settings": getattr(settings.store, settings.store.name),
        "collection_name": settings.collection,
        "metric": settings.store.metric,
        "max_tokens": settings.passages.max_tokens,
        "overlap_tokens": settings.passages.overlap_tokens,
        "metadata_columns": tuple(settings.source.columns.metadata_columns),
        "filter": {},
        "kept_version": None,
        "answered": None,
    }


def draw(settings: Settings, path: Path) -> None:
    """Draw the graph of the configured backends; the file's ending says the format: svg, png, pdf.

    Raises SettingsError, with the package to install, when Graphviz is absent.
    """
    import graphviz

    image = path.suffix.removeprefix(".") or "svg"
    if image not in ("svg", "png", "pdf"):
        raise SettingsError(f"{path.name}: wanted a name ending in .svg, .png or .pdf")
    drawing = build_driver(settings).display_all_functions(
        render_kwargs={"view": False}, show_legend=True, custom_style_function=_style
    )
    try:
        path.write_bytes(drawing.pipe(format=image))
    except graphviz.ExecutableNotFound:
        raise SettingsError(
            "Graphviz draws the graph and is not installed: apt-get install graphviz, or brew install graphviz"
        ) from None
    except OSError as error:
        raise SettingsError(f"{path} cannot be written: {error.strerror or error}") from error


def _style(*, node: Any, node_class: str) -> tuple[dict[str, str], str, str | None]:
    """How a node is drawn: Graphviz's attributes, Hamilton's class, and its words in the legend."""
    if node.tags.get(side_effects.TAG):
        return {"fillcolor": "#f6c8a8", "penwidth": "2"}, node_class, "changes the store"
    return {}, node_class, None
