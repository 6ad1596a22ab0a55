"""What runs in a real Airflow tell others: OpenLineage by its file transport, metrics and spans by a collector.

One run into each store, in a collection of its own, all of one corpus: the first asks the embedding service, which is
away for one request and refuses one text; the others take its vectors from the cache.
"""

import json
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.dags.local_airflow import LocalAirflow
from tests.stores.postgres import WANTED, programs, running
from tests.whole_runs import numbered, write_corpus
from tests.wire.openai_server import OpenAIServer
from tests.wire.pinecone_server import PineconeServer
from tests.wire.telemetry_collector import TelemetryCollector
from tests.wire.weaviate_server import WeaviateServer

pytest.importorskip("airflow.providers.openlineage")
pytest.importorskip("statsd")
pytestmark = [pytest.mark.airflow, pytest.mark.slow, pytest.mark.xdist_group("airflow services")]

STORES = ("lancedb", "pinecone", "weaviate", "pgvector")
SECRETS = ("sk-observed-0123456789abcdef", "pcsk_observed_0123456789", "weaviate-observed-0123456789")
BLANK = {"id": "blank", "title": "Nothing", "context": " ", "question": "What is there?"}


@dataclass
class Observed:
    """A run of 41 documents in two shards into each store, and what was told of them."""

    reports: dict[str, dict[str, Any]]
    """Store -> what its run returned."""
    namespaces: dict[str, str]
    """Store -> the place of its generations, as OpenLineage is to name it."""
    corpus: Path
    events: list[dict[str, Any]]
    collector: TelemetryCollector

    def event(self, task: str, store: str) -> dict[str, Any]:
        """The event that ended a task of the run into a store: runs are one after the other."""
        ended = [
            each for each in self.events if each["job"]["name"].endswith(f".{task}") and each["eventType"] == "COMPLETE"
        ]
        assert len(ended) == len(self.reports), task
        return ended[list(self.reports).index(store)]

    def metric(self, name: str, store: str = "lancedb") -> list[tuple[str, float]]:
        """What came in under a name of ours."""
        return self.collector.metrics[f"airflow.squadron.observed_{store}.{name}"]

    def total(self, name: str, store: str = "lancedb") -> float:
        """The sum of a counter."""
        sent = self.metric(name, store)
        assert sent and {kind for kind, _ in sent} == {"c"}, name
        return sum(value for _, value in sent)


@pytest.fixture(scope="module")
def observed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Observed]:
    if not (place := programs()):
        pytest.skip(WANTED)
    folder = tmp_path_factory.mktemp("observed")
    (folder / "events").mkdir()
    with ExitStack() as opened:
        openai = opened.enter_context(OpenAIServer(SECRETS[0]))
        pinecone = opened.enter_context(PineconeServer(SECRETS[1]))
        weaviate = opened.enter_context(WeaviateServer(key=SECRETS[2]))
        postgres = opened.enter_context(running(place))
        collector = opened.enter_context(TelemetryCollector())
        rows = numbered(*range(41))
        openai.refused.add(f"{rows[7]['title']}\n{rows[7]['context']}")
        settings = {
            **write_corpus(folder / "corpus.jsonl", [*rows, BLANK]),
            "guard.max_quarantined_fraction": 0.5,
            "embedding.service": "openai",
            "embedding.openai.base_url": f"{openai.url}/v1",
            "ingest.shard_passages": 30,
            "ingest.staging": str(folder / "staging"),
            "cache.path": str(folder / "cache"),
            "store.lancedb.uri": str(folder / "lancedb"),
            "store.pinecone.host": pinecone.url,
            "store.weaviate.uri": weaviate.uri,
            "store.weaviate.grpc_port": weaviate.grpc_port,
            "store.pgvector.uri": postgres.uri,
        }
        secrets = dict(zip(("OPENAI_API_KEY", "PINECONE_API_KEY", "WEAVIATE_API_KEY"), SECRETS, strict=True))
        environment = {
            **(secrets | {"PGPASSWORD": postgres.password}),
            "AIRFLOW_VAR_VECTOR_INGEST": json.dumps(settings),
            **_telling(folder / "events" / "event", collector),
        }
        airflow = opened.enter_context(LocalAirflow(folder / "airflow", environment=environment))
        reports = {}
        for store in STORES:
            # The first request of the run's first task tries the service; the shards come after it.
            fault = openai.faults.add("POST", status=503, times=1, every=3) if not reports else None
            conf = {"collection": f"observed_{store}", "vector_store": store}
            run, state = airflow.run_dag("vector_ingest", conf)
            assert state == "success", airflow.task_logs()[-5000:]
            assert fault is None or fault.done == 1
            reports[store] = airflow.report("vector_ingest", run)
            openai.refused.clear()
            _wait_for_the_last_span(collector, len(reports))
        texts = [path.read_text() for path in (folder / "events").iterdir()]
        assert not [secret for secret in (*SECRETS, postgres.password) if secret in "".join(texts)]
        events = sorted((json.loads(text) for text in texts), key=lambda event: event["eventTime"])
        namespaces = {
            "lancedb": f"lancedb://{folder / 'lancedb'}",
            "pinecone": pinecone.url.replace("http", "pinecone"),
            "weaviate": weaviate.uri.replace("http", "weaviate"),
            "pgvector": "postgres://localhost:5432",
        }
        yield Observed(reports, namespaces, folder / "corpus.jsonl", events, collector)


@pytest.mark.parametrize("store", STORES)
def test_the_corpus_becomes_the_generation_in_each_store_with_rows_and_columns(observed: Observed, store: str) -> None:
    event, report = observed.event("finish", store), observed.reports[store]

    ((corpus,), (generation,)) = event["inputs"], event["outputs"]
    assert (corpus["namespace"], corpus["name"]) == ("file", str(observed.corpus))
    assert corpus["inputFacets"]["inputStatistics"]["rowCount"] == report["counts"]["documents"] == 41
    assert {field["name"] for field in corpus["facets"]["schema"]["fields"]} >= {"title", "context", "id", "question"}
    schema = "postgres.squadron." if store == "pgvector" else ""
    assert (generation["namespace"], generation["name"]) == (observed.namespaces[store], schema + report["generation"])
    rows = generation["outputFacets"]["outputStatistics"]["rowCount"]
    assert rows == report["counts"]["embedded"] + report["counts"]["cached"] == (40 if store == "lancedb" else 41)
    columns = {field["name"]: field["type"] for field in generation["facets"]["schema"]["fields"]}
    assert columns["vector"] == "list<float>"
    origin = generation["facets"]["columnLineage"]["fields"]["vector"]["inputFields"]
    assert [(field["name"], field["field"]) for field in origin] == [
        (corpus["name"], "title"),
        (corpus["name"], "context"),
    ]


@pytest.mark.parametrize("store", STORES)
def test_the_generation_becomes_what_the_asset_is_named(observed: Observed, store: str) -> None:
    event, report = observed.event("promote", store), observed.reports[store]

    ((generation,), (collection,)) = event["inputs"], event["outputs"]
    (built,) = observed.event("finish", store)["outputs"]
    assert (generation["namespace"], generation["name"]) == (built["namespace"], built["name"])
    # By the registered converter.
    assert (collection["namespace"], collection["name"]) == (store, f"observed_{store}")
    assert collection["facets"]["version"]["datasetVersion"] == report["generation"]
    assert collection["outputFacets"]["outputStatistics"] == built["outputFacets"]["outputStatistics"]


@pytest.mark.parametrize("store", STORES)
def test_each_stage_sends_what_it_did(observed: Observed, store: str) -> None:
    report = observed.reports[store]
    counts = report["counts"]

    for name in ("embedded", "written", "cached"):
        assert len(observed.metric(f"ingest.{name}", store)) == 2  # one for each shard
        assert observed.total(f"ingest.{name}", store) == counts[name]
    assert observed.total("ingest.tokens", store) == report["tokens"]
    assert observed.metric("plan.documents", store) == [("g", counts["documents"])]
    assert observed.metric("plan.passages", store) == [("g", counts["passages"])]
    assert observed.metric("plan.unchanged", store) == [("g", 0)]
    assert observed.metric("plan.estimated_tokens", store) == [("g", report["estimated_tokens"])]
    assert observed.metric("plan.cost", store) == [("g", report["cost"])]
    assert observed.metric("finish.rows", store) == [("g", counts["written"])]
    assert observed.metric("finish.deleted", store) == [("c", counts["deleted"])]
    assert observed.metric("evaluate.recall_at_10", store) == [("g", report["metrics"]["recall_at_10"])]
    for stage in ("plan", "finish", "evaluate", "promote"):
        ((kind, milliseconds),) = observed.metric(f"{stage}.duration", store)
        assert kind == "ms"
        assert milliseconds / 1000 == pytest.approx(report["seconds"][stage], abs=0.001)
    seconds = sum(milliseconds for _, milliseconds in observed.metric("ingest.duration", store)) / 1000
    assert seconds == pytest.approx(report["seconds"]["ingest"], abs=0.002)
    for stage in ("plan", "ingest", "finish", "evaluate", "promote"):
        assert observed.total(f"{stage}.retries", store) == 0


def test_what_was_paid_refused_and_repeated_is_sent(observed: Observed) -> None:
    report = observed.reports["lancedb"]

    assert report["billed_tokens"] > 0 and report["billed_cost"] > 0
    assert observed.total("ingest.billed_tokens") == report["billed_tokens"]
    assert observed.total("ingest.billed_cost") == pytest.approx(report["billed_cost"])
    assert observed.total("plan.quarantined") == 1  # the row without a text
    assert observed.total("ingest.quarantined") == 1  # the text that was refused
    (host,) = report["endpoints"].values()
    assert observed.total("ingest.requests_answered") == host["answered"] > 0
    assert observed.total("ingest.requests_failed") == host["failed"] > 0
    speeds = observed.metric("ingest.passages_per_second")
    assert len(speeds) == 2 and all(kind == "g" and value > 0 for kind, value in speeds)


def test_what_was_cached_is_sent_as_such(observed: Observed) -> None:
    assert observed.total("ingest.cached", "pinecone") == 40
    assert observed.total("ingest.embedded", "pinecone") == 1  # what was refused before
    assert observed.total("ingest.cached", "pgvector") == 41
    assert observed.total("ingest.billed_cost", "pgvector") == 0


@pytest.mark.parametrize("store", STORES)
def test_the_queue_gets_shorter_until_it_is_empty(observed: Observed, store: str) -> None:
    depths = [value for _, value in observed.metric("queue_depth", store)]

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


def _telling(events: Path, collector: TelemetryCollector) -> dict[str, str]:
    transport = {"type": "file", "log_file_path": str(events), "append": False}
    return {
        "AIRFLOW__OPENLINEAGE__TRANSPORT": json.dumps(transport),
        "AIRFLOW__METRICS__STATSD_ON": "True",
        "AIRFLOW__METRICS__STATSD_HOST": "127.0.0.1",
        "AIRFLOW__METRICS__STATSD_PORT": str(collector.statsd_port),
        "AIRFLOW__TRACES__OTEL_ON": "True",
        "OTEL_TRACES_EXPORTER": "otlp_proto_http",
        "OTEL_EXPORTER_OTLP_ENDPOINT": collector.otlp_address,
    }


def _wait_for_the_last_span(collector: TelemetryCollector, runs: int) -> None:
    """A task's state is known before its last events have left."""
    promoted = "worker.promote"
    collector.wait_for(lambda: sum(span.name == promoted for span in collector.spans) == runs, "the last span")
