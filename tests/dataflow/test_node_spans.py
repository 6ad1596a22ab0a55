"""Tracing: spans where a provider of traces is set up, none elsewhere, and never a word of a text in them."""

import json
import subprocess
import sys
from collections.abc import Callable

from squadron.dataflow.node_spans import node_spans
from squadron.settings.schema import Settings

# A provider is set for a whole process: it gets one of its own.
PROGRAM = """
import json, sys
import pyarrow as pa
from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from squadron.dataflow.driver import Graph
from squadron.settings.schema import Settings

exporter = InMemorySpanExporter()
provider = TracerProvider()
provider.add_span_processor(SimpleSpanProcessor(exporter))
trace.set_tracer_provider(provider)
settings = Settings.model_validate_json(sys.argv[1])
with trace.get_tracer("test").start_as_current_span("task"):
    graph = Graph(settings)
    graph.value("embeddings", model=graph.kept("model"), embedding_texts=["a text that is short"])
    try:
        graph.value("blank_rows", rows=pa.record_batch({"secret": ["words"]}))
    except KeyError:
        pass
spans = exporter.get_finished_spans()
task = next(span for span in spans if span.name == "task")
print(json.dumps({span.name: [span.parent is not None and span.parent.span_id == task.context.span_id, span.to_json()]
                  for span in spans if span is not task}))
"""


def test_nodes_are_spans_and_an_error_is_told_without_its_words(settings_with: Callable[..., Settings]) -> None:
    arguments = [sys.executable, "-c", PROGRAM, settings_with().model_dump_json()]
    done = subprocess.run(arguments, capture_output=True, text=True, timeout=120)

    assert done.returncode == 0, done.stderr
    spans = json.loads(done.stdout.splitlines()[-1])
    assert {"model", "embeddings", "blank_rows"} <= set(spans)
    assert all(below for below, _ in spans.values())
    assert json.loads(spans["embeddings"][1])["status"]["status_code"] == "UNSET"
    assert json.loads(spans["blank_rows"][1])["status"] == {"status_code": "ERROR", "description": "KeyError"}
    assert not any("secret" in told or "short" in told for _, told in spans.values())


def test_without_a_provider_of_traces_the_graph_has_no_adapter() -> None:
    assert node_spans() == []
