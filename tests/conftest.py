"""Fixtures that all tests share: settings that keep everything in a test's own folder."""

import os
import tempfile
from collections.abc import Callable, Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import settings as hypothesis_settings

from squadron.settings.layers import Layer, resolve
from squadron.settings.schema import Settings
from tests.left_out import (  # noqa: F401 - hooks of pytest's
    pytest_collection_modifyitems,
    pytest_configure,
    pytest_deselected,
    pytest_sessionfinish,
    pytest_terminal_summary,
    pytest_testnodedown,
)

if TYPE_CHECKING:
    from tests.dags.local_airflow import LocalAirflow
    from tests.wire.openai_server import OpenAIServer
    from tests.wire.telemetry_collector import TelemetryCollector

# What libraries download or convert goes here, and nothing is asked of a hub.
_CACHE = tempfile.TemporaryDirectory(prefix="squadron-tests-")
os.environ["HF_HOME"] = _CACHE.name
os.environ["HF_HUB_OFFLINE"] = "1"

hypothesis_settings.register_profile("tests", deadline=None, derandomize=True, database=None)
hypothesis_settings.load_profile("tests")


@pytest.fixture
def settings_with(tmp_path: Path) -> Callable[..., Settings]:
    """Settings of the collection `books`: the sample, hashed words, LanceDB. Takes changes by dotted key."""

    def changed(**changes: Any) -> Settings:
        values: dict[str, Any] = {
            "collection": "books",
            "source.name": "sample",
            "embedding.service": "hashing",
            "store.lancedb.uri": "lancedb",
            "ingest.staging": "staging",
            "cache.path": None,
        }
        return resolve([Layer("test", values | changes, tmp_path)]).settings

    return changed


@pytest.fixture
def openai(monkeypatch: pytest.MonkeyPatch) -> "Iterator[OpenAIServer]":
    """OpenAI on loopback; the key that it wants is in the environment."""
    from tests.wire.openai_server import OpenAIServer

    key = "sk-test-0123456789abcdef"
    monkeypatch.setenv("OPENAI_API_KEY", key)
    with OpenAIServer(key=key) as server:
        yield server


@pytest.fixture(scope="session")
def running_airflow(
    tmp_path_factory: pytest.TempPathFactory, collector: "TelemetryCollector"
) -> "Iterator[LocalAirflow]":
    """The one Airflow that tests share, which start it with their first request. Their group is `airflow`."""
    from tests.dags.local_airflow import LocalAirflow

    metrics = {
        "AIRFLOW__METRICS__STATSD_ON": str(find_spec("statsd") is not None),
        "AIRFLOW__METRICS__STATSD_HOST": "127.0.0.1",
        "AIRFLOW__METRICS__STATSD_PORT": str(collector.statsd_port),
    }
    with LocalAirflow(tmp_path_factory.mktemp("airflow"), environment=metrics) as running:
        yield running


@pytest.fixture
def airflow(running_airflow: "LocalAirflow") -> "Iterator[LocalAirflow]":
    """The Airflow that tests share, without Variables and Connections of other tests."""
    running_airflow.forget_what_was_set()
    yield running_airflow
    running_airflow.forget_what_was_set()


@pytest.fixture(scope="session")
def collector() -> "Iterator[TelemetryCollector]":
    """What the shared Airflow tells of metrics."""
    from tests.wire.telemetry_collector import TelemetryCollector

    with TelemetryCollector() as collecting:
        yield collecting
