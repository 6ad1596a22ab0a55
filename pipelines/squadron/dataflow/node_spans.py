"""Tracing: a span for each node that the graph computes, below the span of the task that asked for it."""

import sys
from typing import Any

from squadron.process.hamilton_runtime import NodeExecutionHook


def node_spans() -> list[NodeExecutionHook]:
    """The adapter for the graph; none where no provider of traces is set up, and then nothing is imported."""
    trace = sys.modules.get("opentelemetry.trace")
    if trace is None or not hasattr(trace.get_tracer_provider(), "add_span_processor"):
        return []
    return [NodeSpans(trace)]


class NodeSpans(NodeExecutionHook):
    """Spans say a node's name and how many rows it gave; never what is in them.

    Threads know nothing of the task's span: their nodes belong to the span in which the graph was built.
    """

    def __init__(self, trace: Any) -> None:
        self._trace = trace
        self._tracer = trace.get_tracer("squadron")
        self._task = trace.get_current_span()
        self._open: dict[tuple[str, str], Any] = {}

    def run_before_node_execution(self, *, node_name: str, run_id: str, **_: Any) -> None:
        """Open the node's span."""
        current = self._trace.get_current_span()
        parent = current if current.get_span_context().is_valid else self._task
        context = self._trace.set_span_in_context(parent)
        self._open[run_id, node_name] = self._tracer.start_span(node_name, context=context)

    def run_after_node_execution(
        self, *, node_name: str, run_id: str, result: Any, error: Exception | None, success: bool, **_: Any
    ) -> None:
        """Close it. Of an error only the kind is told: its words may hold a text."""
        span = self._open.pop((run_id, node_name))
        rows = getattr(result, "num_rows", None)
        if isinstance(rows, int):
            span.set_attribute("squadron.rows", rows)
        if not success:
            span.set_status(self._trace.Status(self._trace.StatusCode.ERROR, type(error).__name__))
        span.end()
