"""config/kubernetes.yaml: keys that the chart has, and names that are true of this project."""

import re
from collections.abc import Iterator
from typing import Any

import pytest
import yaml

from squadron.airflow_support.variables import variable_layers
from squadron.settings.credentials import CREDENTIALS
from squadron.settings.layers import collections, resolve
from tests.project.test_compose import COMPOSE, ROOT, SERVICES

TEXT = (ROOT / "config" / "kubernetes.yaml").read_text()
VALUES: dict[str, Any] = yaml.safe_load(TEXT)
ENVIRONMENT = {each["name"]: each["value"] for each in VALUES["env"]}
# The chart's parameters that are used, as its reference and its release notes up to 1.22 name them: the chart takes
# others too, but says nothing of one that is misspelt. Look a new one up, then add it.
PARAMETERS = {
    "executor",
    "airflowVersion",
    "images.airflow.repository",
    "images.airflow.tag",
    "postgresql.enabled",
    "data.metadataSecretName",
    "fernetKeySecretName",
    "apiSecretKeySecretName",
    "jwtSecretName",
    "extraEnvFrom",
    "env",
    "volumes",
    "volumeMounts",
    "securityContexts.pod",
    "logs.persistence.enabled",
    "logs.persistence.size",
    "workers.kubernetes.resources",
    "workers.celery.replicas",
    "workers.celery.persistence.enabled",
    "workers.celery.resources",
    "workers.celery.terminationGracePeriodSeconds",
    "config.celery.worker_concurrency",
    "apiServer.resources",
    "scheduler.resources",
    "dagProcessor.resources",
    "triggerer.resources",
}


def test_every_value_is_a_parameter_of_the_chart() -> None:
    assert set(_parameters(VALUES)) == PARAMETERS


def test_the_image_is_of_this_version_on_the_airflow_of_the_requirements() -> None:
    airflow = re.search(r"^apache-airflow==(\S+)", (ROOT / "requirements.txt").read_text(), re.MULTILINE)

    assert VALUES["images"]["airflow"]["tag"] == SERVICES["airflow-worker"]["image"].partition(":")[2]
    assert airflow and VALUES["airflowVersion"] == airflow[1]


def test_options_of_airflow_are_those_of_the_compose_file() -> None:
    options = {name: value for name, value in ENVIRONMENT.items() if name.startswith("AIRFLOW__")}

    assert len(options) == 3
    assert options.items() <= SERVICES["airflow-worker"]["environment"].items()


def test_the_settings_of_the_variable_are_sound_and_on_the_shared_volume() -> None:
    texts = {"vector_ingest": ENVIRONMENT["AIRFLOW_VAR_VECTOR_INGEST"]}

    settings = resolve(variable_layers(texts.get)).settings

    folders = [settings.store.lancedb.uri, settings.ingest.staging, settings.cache.path]
    assert [each for each in folders if not str(each).startswith(str(ROOT / ".squadron"))] == []


def test_the_shared_volume_is_where_the_settings_and_the_image_expect_it() -> None:
    (mount,) = VALUES["volumeMounts"]
    (volume,) = VALUES["volumes"]
    (in_compose,) = (each for each in SERVICES["airflow-worker"]["volumes"] if each.startswith("squadron:"))

    assert mount["name"] == volume["name"] and mount["mountPath"] == in_compose.partition(":")[2]
    assert "squadron" in COMPOSE["volumes"]


def test_connections_that_are_named_are_those_that_are_read() -> None:
    listed = set(re.findall(r"\b(\w+_default)\b", TEXT))

    assert listed == {credential.connection for credential in CREDENTIALS.values()} | {"lancedb_default"}
    assert {name.lower() for name in re.findall(r"AIRFLOW_CONN_(\w+)=", TEXT)} <= listed


def test_it_makes_no_dag() -> None:
    assert "kubernetes" not in collections()


@pytest.mark.parametrize("kind", ["kubernetes", "celery"])
def test_a_shard_has_memory_and_all_cores(kind: str) -> None:
    resources = VALUES["workers"][kind]["resources"]

    assert resources["limits"].keys() == {"memory"}
    assert resources["requests"]["memory"] == "1536Mi"


def test_the_secrets_that_are_named_are_those_that_the_header_makes() -> None:
    made = set(re.findall(r"create secret generic (\S+)", TEXT))
    named = {VALUES["data"]["metadataSecretName"], *re.findall(r"name: (\S+)", VALUES["extraEnvFrom"])}

    assert made == named | {VALUES[key] for key in ("fernetKeySecretName", "apiSecretKeySecretName", "jwtSecretName")}


def _parameters(values: dict[str, Any], prefix: str = "") -> Iterator[str]:
    """Dotted keys, down to what a parameter holds."""
    for name, value in values.items():
        key = prefix + name
        if isinstance(value, dict) and name not in ("resources", "pod"):
            yield from _parameters(value, f"{key}.")
        else:
            yield key
