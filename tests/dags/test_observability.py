"""What a run in a real Airflow tells others: OpenLineage by its file transport, metrics and spans by a collector."""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.dags.local_airflow import ROOT, LocalAirflow
from tests.wire.telemetry_collector import TelemetryCollector

pytest.importorskip("airflow.providers.openlineage")
pytest.importorskip("statsd")
pytestmark = [pytest.mark.airflow, pytest.mark.slow, pytest.mark.xdist_group("airflow services")]


@dataclass
class Observed:
    """A run of the sample in two shards, and what was told of it."""

    report: dict[str, Any]
    store: Path
    events: list[dict[str, Any]]
    collector: TelemetryCollector

    def event(self, task: str) -> dict[str, Any]:
        """The event that ended a task."""
        (found,) = ended(self.events, task)
        return found

    def metric(self, name: str) -> list[tuple[str, float]]:
        """What came in under a name of ours."""
        return self.collector.metrics[f"airflow.squadron.observed.{name}"]


def ended(events: list[dict[str, Any]], task: str) -> list[dict[str, Any]]:
    return [each for each in events if each["job"]["name"].endswith(f".{task}") and each["eventType"] == "COMPLETE"]


@pytest.fixture(scope="module")
def observed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Observed]:
    folder = tmp_path_factory.mktemp("observed")
    (folder / "events").mkdir()
    places = {"store.lancedb.uri": "lancedb", "ingest.staging": "staging", "cache.path": "cache"}
    conf = {key: str(folder / name) for key, name in places.items()} | {
        "collection": "observed",
        "source.name": "sample",
        "embedding_service": "hashing",
        "ingest.shard_passages": 60,
    }
    with TelemetryCollector() as collector:
        environment = {
            "AIRFLOW__OPENLINEAGE__TRANSPORT": json.dumps(
                {"type": "file", "log_file_path": str(folder / "events" / "event"), "append": False}
            ),
            "AIRFLOW__METRICS__STATSD_ON": "True",
            "AIRFLOW__METRICS__STATSD_HOST": "127.0.0.1",
            "AIRFLOW__METRICS__STATSD_PORT": str(collector.statsd_port),
            "AIRFLOW__TRACES__OTEL_ON": "True",
            "OTEL_TRACES_EXPORTER": "otlp_proto_http",
            "OTEL_EXPORTER_OTLP_ENDPOINT": collector.otlp_address,
        }
        with LocalAirflow(folder / "airflow", environment=environment) as airflow:
            run, state = airflow.run_dag("vector_ingest", conf)
            assert state == "success", airflow.task_logs()[-5000:]
            # A task's state is known before its last events have left.
            collector.wait_for(lambda: any(span.name == "worker.promote" for span in collector.spans), "the last span")
            report = airflow.report("vector_ingest", run)
        events = [json.loads(path.read_text()) for path in sorted((folder / "events").iterdir())]
        yield Observed(report, folder / "lancedb", events, collector)


def test_the_corpus_becomes_the_generation_with_rows_and_columns(observed: Observed) -> None:
    event = observed.event("finish")

    ((corpus,), (generation,)) = event["inputs"], event["outputs"]
    assert (corpus["namespace"], corpus["name"]) == ("file", str(ROOT / "data" / "sample.json"))
    assert corpus["inputFacets"]["inputStatistics"]["rowCount"] == observed.report["counts"]["documents"]
    assert [field["name"] for field in corpus["facets"]["schema"]["fields"]] == ["title", "context", "id", "question"]
    assert generation["namespace"] == f"lancedb://{observed.store}"
    assert generation["name"] == observed.report["generation"]
    assert generation["outputFacets"]["outputStatistics"]["rowCount"] == observed.report["counts"]["passages"]
    columns = {field["name"]: field["type"] for field in generation["facets"]["schema"]["fields"]}
    assert columns["vector"] == "list<float>"
    origin = generation["facets"]["columnLineage"]["fields"]["vector"]["inputFields"]
    assert [(field["name"], field["field"]) for field in origin] == [
        (corpus["name"], "title"),
        (corpus["name"], "context"),
    ]


def test_the_generation_becomes_what_the_asset_is_named(observed: Observed) -> None:
    event = observed.event("promote")

    ((generation,), (collection,)) = event["inputs"], event["outputs"]
    (built,) = observed.event("finish")["outputs"]
    assert (generation["namespace"], generation["name"]) == (built["namespace"], built["name"])
    assert (collection["namespace"], collection["name"]) == ("lancedb", "observed")  # by the registered converter
    assert collection["facets"]["version"]["datasetVersion"] == observed.report["generation"]
    assert collection["outputFacets"]["outputStatistics"]["rowCount"] == observed.report["counts"]["passages"]


def test_each_stage_sends_what_it_did(observed: Observed) -> None:
    counts = observed.report["counts"]

    for name in ("embedded", "written", "cached"):
        sent = observed.metric(f"ingest.{name}")
        assert [kind for kind, _ in sent] == ["c", "c"]  # one for each shard
        assert sum(value for _, value in sent) == counts[name]
    assert sum(value for _, value in observed.metric("ingest.tokens")) == observed.report["tokens"]
    assert observed.metric("plan.documents") == [("g", counts["documents"])]
    assert observed.metric("plan.quarantined") == [("c", 0)]
    assert observed.metric("finish.rows") == [("g", counts["passages"])]
    assert observed.metric("evaluate.recall_at_10") == [("g", observed.report["metrics"]["recall_at_10"])]
    assert all(value > 0 for _, value in observed.metric("ingest.passages_per_second"))
    for stage in ("plan", "finish", "evaluate", "promote"):
        ((kind, milliseconds),) = observed.metric(f"{stage}.duration")
        assert kind == "ms"
        assert milliseconds / 1000 == pytest.approx(observed.report["seconds"][stage], abs=0.001)


def test_the_queue_gets_shorter_until_it_is_empty(observed: Observed) -> None:
    depths = [value for _, value in observed.metric("queue_depth")]

    assert depths[0] == 2
    assert sorted(depths[1:3], reverse=True) == depths[1:3]
    assert depths[-1] == 0


def test_nodes_are_spans_below_the_task_that_computed_them(observed: Observed) -> None:
    spans = {span.span_id: span for span in observed.collector.spans}

    def nodes_of(task: str) -> set[str]:
        return {span.name for span in spans.values() if below(span, task)}

    def below(span: Any, task: str) -> bool:
        parent = spans.get(span.parent_span_id)
        return parent is not None and (parent.name == task or below(parent, task))

    assert "documents" in nodes_of("worker.plan")
    assert {"embedding_texts", "embeddings", "records", "rows_written"} <= nodes_of("worker.ingest[0]")
    assert "index_built" in nodes_of("worker.finish")
    assert "matches" in nodes_of("worker.evaluate")
