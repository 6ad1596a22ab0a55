"""Outages: a store or an embedding service that is gone, slow or busy costs time or a rerun, never a row.

Each run meets the outage in its middle, over the service's real client, while a generation is live.
"""

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pyarrow as pa
import pytest

from squadron.dataflow.driver import shared_graph
from squadron.errors import SquadronError
from squadron.generations import model_canary as canary
from squadron.generations.catalog import Generations
from squadron.runs.whole_run import ingest
from squadron.settings.schema import Settings
from tests.faults.corpora import AFTER, BEFORE, answers, clean_rows, settings_of
from tests.faults.link import Link, when_told
from tests.stores import postgres
from tests.wire.faults import Faults
from tests.wire.openai_server import OpenAIServer
from tests.wire.pinecone_server import PineconeServer
from tests.wire.weaviate_server import WeaviateServer

KEY = "outages-0123456789abcdef"
WRITES = {"weaviate": "BatchObjects", "pinecone": "POST .*/vectors/upsert"}
AGAIN = {"weaviate": "Trying again", "pinecone": "Trying again", "pgvector": "Trying again", "openai": ": again in"}
BYTES = {"weaviate": 60_000, "pinecone": 200_000, "pgvector": 60_000, "openai": 5_000}
"""Where the middle of a run is: what a client has sent by then."""


@dataclass
class Service:
    """A service that a run needs, and the link to it."""

    name: str
    link: Link
    faults: Faults
    settings: dict[str, Any]
    impatient: dict[str, Any]
    """Settings with which it is soon given up."""
    embedded: Callable[[], dict[str, int]]


def share(*names: str) -> list[Any]:
    """Parameters: the services whose share every run takes, and the others, which are `slow`."""
    return [pytest.param(name, marks=() if name in ("weaviate", "openai") else pytest.mark.slow) for name in names]


@pytest.fixture(params=share("weaviate", "pinecone", "pgvector", "openai"))
def service(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[Service]:
    for variable in ("WEAVIATE_API_KEY", "PINECONE_API_KEY", "OPENAI_API_KEY"):
        monkeypatch.setenv(variable, KEY)
    with ExitStack() as stack:
        yield STARTED[request.param](stack)


def weaviate(stack: ExitStack) -> Service:
    server = stack.enter_context(WeaviateServer(key=KEY))
    link = stack.enter_context(Link(server.port, server.grpc_port))
    place = {"store.weaviate.uri": f"http://127.0.0.1:{link.ports[0]}", "store.weaviate.grpc_port": link.ports[1]}
    values = {"store.name": "weaviate", **place}
    return Service("weaviate", link, server.faults, values, {"store.weaviate.max_retries": 1}, dict)


def pinecone(stack: ExitStack) -> Service:
    server = stack.enter_context(PineconeServer(KEY))
    link = stack.enter_context(Link(int(server.url.rpartition(":")[2])))
    values = {"store.name": "pinecone", "store.pinecone.host": f"http://127.0.0.1:{link.ports[0]}"}
    return Service("pinecone", link, server.faults, values, {"store.pinecone.max_retries": 1}, dict)


def pgvector(stack: ExitStack) -> Service:
    """A Postgres of this test's own. What becomes of a lost connection is known here, not what of a busy server."""
    programs = postgres.programs()
    if programs is None:
        pytest.skip(postgres.WANTED)
    server = stack.enter_context(postgres.running(programs))
    stack.enter_context(pytest.MonkeyPatch.context()).setenv("PGPASSWORD", server.password)
    (folder,) = parse_qs(urlsplit(server.uri).query)["host"]
    link = stack.enter_context(Link(f"{folder}/.s.PGSQL.5432"))
    uri = f"postgresql://squadron@127.0.0.1:{link.ports[0]}/postgres"
    values = {"store.name": "pgvector", "store.pgvector.uri": uri}
    return Service("pgvector", link, Faults(), values, {"store.pgvector.deadline_seconds": 0.1}, dict)


def openai(stack: ExitStack) -> Service:
    server = stack.enter_context(OpenAIServer(KEY))
    link = stack.enter_context(Link(int(server.url.rpartition(":")[2])))
    values = {
        "embedding.service": "openai",
        "embedding.openai.base_url": f"http://127.0.0.1:{link.ports[0]}/v1",
        "embedding.openai.dimensions": 256,
        "embedding.openai.batch_texts": 8,
        "embedding.openai.concurrency": 2,
    }
    impatient = {"embedding.openai.deadline_seconds": 0.2}
    return Service("openai", link, server.faults, values, impatient, lambda: dict(server.embedded))


STARTED = {"weaviate": weaviate, "pinecone": pinecone, "pgvector": pgvector, "openai": openai}


def stored_texts(settings: Settings) -> dict[str, str]:
    """Passage id -> text of what the live generation holds."""
    graph = shared_graph(settings)
    table = graph.value("generation_table", generation=Generations(graph).live, metadata_columns=())
    ids = [key for part in graph.value("stored_ids", generation_table=table) for key in part.to_pylist()]
    rows = graph.value("stored_rows", generation_table=table, wanted_ids=pa.array(ids, pa.string())).to_pylist()
    assert len(rows) == len(ids)
    return {row["id"]: row["text"] for row in rows}


def clean_texts(folder: Path) -> dict[str, str]:
    """Passage id -> text of a clean build; passage ids are the same in all stores."""
    return {key: row["text"] for key, row in clean_rows(folder, AFTER).items()}


def both(service: Service, folder: Path) -> tuple[Settings, Settings]:
    """Settings of the same run: those that give up soon, and the usual ones, under which nothing is remembered."""
    return tuple(settings_of(folder, AFTER, **service.settings, **more) for more in (service.impatient, {}))


def test_a_service_that_comes_back_in_time_costs_a_run_nothing(service: Service, tmp_path: Path) -> None:
    ingest(settings_of(tmp_path, BEFORE, **service.settings))
    settings = settings_of(tmp_path, AFTER, **service.settings)

    service.link.cut_after(BYTES[service.name])
    with when_told(AGAIN[service.name], service.link):
        done = ingest(settings)

    assert service.link.cuts == 1
    assert done["counts"]["written"] == len(set(AFTER) - set(BEFORE))
    assert stored_texts(settings) == clean_texts(tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("moment", ["planning", "writing"])
def test_a_service_that_is_away_for_half_a_minute_costs_a_run_with_the_usual_settings_nothing(
    service: Service, tmp_path: Path, moment: str
) -> None:
    ingest(settings_of(tmp_path, BEFORE, **service.settings))
    settings = settings_of(tmp_path, AFTER, **service.settings)

    service.link.cut_after(BYTES[service.name] if moment == "writing" else 0)
    with when_told(AGAIN[service.name], service.link, after_seconds=31):
        done = ingest(settings)

    assert service.link.cuts == 1
    assert done["counts"]["written"] == len(set(AFTER) - set(BEFORE))
    assert stored_texts(settings) == clean_texts(tmp_path)


def test_a_service_that_stays_away_ends_the_run_and_the_rerun_sends_only_the_rest(
    service: Service, tmp_path: Path
) -> None:
    ingest(settings_of(tmp_path, BEFORE, **service.settings))
    settings, patient = both(service, tmp_path)

    service.link.cut_after(BYTES[service.name])
    with pytest.raises(SquadronError) as refusal:
        ingest(settings)
    cuts = service.link.cuts
    service.link.restore()
    assert answers(patient)
    again = ingest(patient)

    assert cuts == 1
    assert f"127.0.0.1:{service.link.ports[0]}" in str(refusal.value)
    assert KEY not in str(refusal.value)
    counts = again["counts"]
    assert counts["embedded"] < len(set(AFTER) - set(BEFORE))  # what was there already is in the cache, or stored
    assert stored_texts(patient) == clean_texts(tmp_path)
    sent = {text: times for text, times in service.embedded().items() if text not in canary.TEXTS}
    twice = sum(times > 1 for times in sent.values())
    assert twice <= 2 * 8  # at most what two requests of 8 texts held when they were cut off


@pytest.mark.parametrize("service", ["weaviate"], indirect=True)
def test_a_slow_service_is_waited_for(service: Service, tmp_path: Path) -> None:
    settings = settings_of(tmp_path, AFTER, **service.settings)
    slow = service.faults.add(WRITES.get(service.name, "POST"), every=3, delay_seconds=0.2)

    ingest(settings)

    assert slow.seen > 0
    assert stored_texts(settings) == clean_texts(tmp_path)


@pytest.mark.parametrize("service", share("weaviate", "pinecone", "openai"), indirect=True)
def test_a_storm_of_429_is_weathered(service: Service, tmp_path: Path) -> None:
    settings = settings_of(tmp_path, AFTER, **service.settings, **{"ingest.batch_passages": 32})
    busy = {"status": 429, "headers": {"retry-after": "0"}, "body": "{}"}
    storm = service.faults.add(WRITES.get(service.name, "POST"), every=3, **busy)

    ingest(settings)

    assert storm.done >= 2
    assert stored_texts(settings) == clean_texts(tmp_path)
    assert set(service.embedded().values()) <= {1}


@pytest.mark.parametrize("service", ["weaviate", "openai"], indirect=True)
def test_a_storm_of_429_that_does_not_end_is_given_up_and_the_rerun_completes(service: Service, tmp_path: Path) -> None:
    ingest(settings_of(tmp_path, BEFORE, **service.settings))
    settings, patient = both(service, tmp_path)
    busy = {"status": 429, "headers": {"retry-after": "1"}, "body": "{}"}

    service.faults.add(WRITES.get(service.name, "POST"), **busy)
    with pytest.raises(SquadronError, match=r"429|RESOURCE_EXHAUSTED"):
        ingest(settings)
    service.faults.clear()
    assert answers(patient)
    ingest(patient)

    assert stored_texts(patient) == clean_texts(tmp_path)
