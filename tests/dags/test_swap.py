"""Swapping the store by an Airflow Variable, in a real Airflow: four stores give the same answers.

The runs are a user's who may trigger DAGs and nothing else: Variables and Connections are an administrator's.
"""

import json
import os
import urllib.error
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from squadron.generations.search import search
from squadron.settings.layers import Layer, resolve
from tests.dags.local_airflow import LocalAirflow
from tests.stores.postgres import WANTED, programs, running
from tests.wire.pinecone_server import PineconeServer
from tests.wire.weaviate_server import WeaviateServer

pytestmark = [pytest.mark.airflow, pytest.mark.xdist_group("airflow")]

PINECONE_KEY, WEAVIATE_KEY = "pcsk_swap_0123456789abcdef", "weaviate-swap-0123456789abcdef"
QUESTIONS = ("How is steel made from iron?", "What do bees collect?", "Wie entsteht ein Gewitter?")


@pytest.fixture
def airflow(airflow: LocalAirflow) -> Iterator[LocalAirflow]:
    """Spoken to by a user whose role is not admin's, nor op's."""
    with airflow.signed_in("user"):
        yield airflow


@pytest.mark.slow
def test_a_variable_moves_the_next_run_to_another_store_and_nothing_is_embedded_twice(
    airflow: LocalAirflow, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = programs()
    if place is None:
        pytest.skip(WANTED)
    with (
        running(place) as postgres,
        PineconeServer(PINECONE_KEY) as pinecone,
        WeaviateServer(key=WEAVIATE_KEY) as weaviate,
    ):
        settings: dict[str, Any] = {
            "collection": "swapped",
            "source": {"name": "sample"},
            "ingest": {"staging": str(tmp_path / "staging")},
            "cache": {"path": str(tmp_path / "cache")},
            "store": {
                "lancedb": {"uri": str(tmp_path / "lancedb")},
                "pinecone": {"host": pinecone.url},
                "weaviate": {"uri": weaviate.uri, "grpc_port": weaviate.grpc_port},
                "pgvector": {"uri": postgres.uri},
            },
        }
        secrets = {
            "pinecone_default": ("generic", PINECONE_KEY, "PINECONE_API_KEY"),
            "weaviate_default": ("generic", WEAVIATE_KEY, "WEAVIATE_API_KEY"),
            "postgres_default": ("postgres", postgres.password, "PGPASSWORD"),
        }
        for name, (kind, secret, variable) in secrets.items():
            airflow.set_connection(name, kind, secret)
            monkeypatch.setenv(variable, secret)
        airflow.set_variable("vector_ingest", json.dumps(settings))
        airflow.set_variable("embedding_service", "hashing")

        embedded, answers, history = {}, {}, []
        for store in ("lancedb", "pinecone", "weaviate", "pgvector"):
            airflow.set_variable("vector_store", store)
            run, state = airflow.run_dag("vector_ingest", {})
            assert state == "success", airflow.task_logs()[-5000:]
            report = airflow.report("vector_ingest", run)
            history.append((run, "hashing", store, report["generation"], "success", True))
            assert airflow.get(f"dags/vector_ingest/dagRuns/{run}")["triggering_user_name"] == "user"
            counts = report["counts"]
            assert counts["written"] == counts["passages"] == 107
            embedded[store] = counts["embedded"]
            chosen = {"vector_store": store, "embedding_service": "hashing"}
            resolved = resolve([Layer("Variable", settings | chosen, tmp_path)]).settings
            answers[store] = [search(resolved, question, top_k=5) for question in QUESTIONS]

        assert embedded == {"lancedb": 107, "pinecone": 0, "weaviate": 0, "pgvector": 0}
        for store, given in answers.items():
            for found, expected in zip(given, answers["lancedb"], strict=True):
                ids = [match["passage_id"] for match in found]
                assert ids == [match["passage_id"] for match in expected], store
                scores = [match["score"] for match in found]
                assert scores == pytest.approx([match["score"] for match in expected], abs=1e-3), store
        logs = airflow.task_logs()
        assert "store.name = " in logs
        assert not [secret for _, secret, _ in secrets.values() if secret in logs]
        assert os.environ["PGPASSWORD"] == postgres.password  # the secrets looked for were the ones in use
        shown = airflow.page("api/collections/swapped/runs")["runs"]
        names = ("run_id", "service", "store", "generation", "state", "promoted")
        assert [tuple(each[name] for name in names) for each in shown] == history[::-1]
        about = airflow.page("api/collections/swapped")
        assert (about["store"], about["service"], about["may_move"]) == ("pgvector", "hashing", True)


def test_the_user_who_triggers_the_runs_may_change_no_variable_connection_or_pool(airflow: LocalAirflow) -> None:
    bodies: dict[str, dict[str, Any]] = {
        "variables": {"key": "vector_store", "value": "lancedb"},
        "connections": {"connection_id": "weaviate_default", "conn_type": "generic"},
        "pools": {"name": "embedding_other", "slots": 1},
    }
    for kind, body in bodies.items():
        with pytest.raises(urllib.error.HTTPError) as refused:
            airflow.post(kind, body)
        assert refused.value.code == 403, kind
