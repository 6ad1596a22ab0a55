"""What `squadron graph` draws is what runs: no node is drawn that nothing executes."""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

from squadron.dataflow.driver import build_driver
from squadron.settings.schema import Settings
from tests.whole_runs import numbered, write_corpus

# A provider of traces is set for a whole process, and it makes Hamilton's hook give a span to each node that it
# executes (node_spans.py). So the runs have a process of their own.
PROGRAM = """
import json, sys
from pathlib import Path
from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

exporter = InMemorySpanExporter()
provider = TracerProvider()
provider.add_span_processor(SimpleSpanProcessor(exporter))
trace.set_tracer_provider(provider)

from squadron.errors import GateError
from squadron.generations.search import search
from squadron.runs.verify import verify
from squadron.runs.whole_run import ingest
from squadron.settings.schema import Settings
from tests.whole_runs import numbered, write_corpus

settings = Settings.model_validate_json(sys.argv[1])
corpus = Path(settings.source.path)
ingest(settings)
write_corpus(corpus, numbered(*range(3, 40)))  # documents that left the corpus are deleted
ingest(settings)
search(settings, "Which thing has the size7?", 3)
verify(settings)
write_corpus(corpus, numbered(*range(2, 40), question="What is it called?"))
ingest(settings)  # other questions: the generation is asked as it was before, too
write_corpus(corpus, numbered(*range(2, 40)))
ingest(settings)
write_corpus(corpus, numbered(*range(2, 40), context="Nothing that anybody asked about."))
try:
    ingest(settings)
    sys.exit("the gate let worse answers pass")
except GateError:
    pass  # the generation is restored
write_corpus(corpus, numbered(*range(2, 40)))
for passages in ({"template": "plain_v1"}, {"max_tokens": 64}):  # each is another generation; the oldest is dropped
    others = settings.model_dump() | {"passages": passages, "retention": {"generations": 2}}
    ingest(Settings.model_validate(others))
print(json.dumps(sorted({span.name for span in exporter.get_finished_spans()})))
"""


def test_every_node_that_is_drawn_is_executed_by_ingest_search_and_verify(
    settings_with: Callable[..., Settings], tmp_path: Path
) -> None:
    settings = settings_with(**write_corpus(tmp_path / "corpus.jsonl", numbered(*range(40))))
    drawn = {node.name for node in build_driver(settings).list_available_variables() if not node.is_external_input}

    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, settings.model_dump_json()],
        capture_output=True,
        text=True,
        timeout=300,
        cwd=Path(__file__).parents[2],
        env=os.environ | {"PYTHONPATH": os.pathsep.join([str(Path(__file__).parents[2]), *sys.path])},
    )

    assert done.returncode == 0, done.stderr
    executed = set(json.loads(done.stdout.splitlines()[-1]))
    assert sorted(drawn - executed) == []
    assert sorted(executed - drawn) == []
