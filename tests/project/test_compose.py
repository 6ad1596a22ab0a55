"""docker-compose.yaml, Dockerfile and .env.example: whole, safe, and true of this Airflow and this folder."""

import json
import os
import re
import shlex
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[2]
TEXT = (ROOT / "docker-compose.yaml").read_text()
COMPOSE: dict[str, Any] = yaml.safe_load(TEXT)
SERVICES: dict[str, Any] = COMPOSE["services"]
INIT = "airflow-init"
# The layout of Airflow's own Compose file: service -> what it runs.
LAYOUT = {
    "airflow-apiserver": "api-server",
    "airflow-scheduler": "scheduler",
    "airflow-dag-processor": "dag-processor",
    "airflow-triggerer": "triggerer",
    "airflow-worker": "celery worker",
}
STORES = {"weaviate", "pgvector"}
SECRET = re.compile(r"KEY|SECRET|PASSWORD|TOKEN")
VARIABLES = re.findall(r"(?<!\$)\$\{(\w+)([^}]*)\}", TEXT)
DOCKERFILE = (ROOT / "Dockerfile").read_text()


def test_every_service_of_airflows_own_layout_is_there() -> None:
    assert {name: SERVICES[name]["command"] for name in LAYOUT} == LAYOUT
    assert SERVICES.keys() == {*LAYOUT, INIT, "postgres", "redis", *STORES}
    assert {name for name in SERVICES if "profiles" in SERVICES[name]} == STORES


@pytest.mark.parametrize("name", SERVICES)
def test_a_service_is_checked_and_restarted_unless_it_is_to_end(name: str) -> None:
    service = SERVICES[name]

    assert ("healthcheck" in service) == (name != INIT)
    assert service["restart"] == ("no" if name == INIT else "unless-stopped")


@pytest.mark.parametrize("name", [INIT, *LAYOUT])
def test_a_service_waits_for_what_it_needs(name: str) -> None:
    waits = {other: wait["condition"] for other, wait in SERVICES[name]["depends_on"].items()}

    assert waits["postgres"] == "service_healthy"
    assert name == INIT or waits[INIT] == "service_completed_successfully"
    assert name != "airflow-worker" or waits["airflow-apiserver"] == "service_healthy"


def test_no_secret_has_a_default_value() -> None:
    secrets = {name: default for name, default in VARIABLES if SECRET.search(name)}

    assert "POSTGRES_PASSWORD" in secrets
    assert {name for name, default in secrets.items() if not default.startswith(":?") and default != ":-"} == set()


def test_no_service_bears_a_secret_of_its_own() -> None:
    given = {
        (service, name): str(value)
        for service, settings in SERVICES.items()
        for name, value in settings.get("environment", {}).items()
        if SECRET.search(name) and value is not None
    }
    exempt = ("_FILE", "_ENABLED", "_USERS")  # where passwords are, whether there are keys, and whose

    assert [key for key, value in given.items() if not value.startswith("${") and not key[1].endswith(exempt)] == []
    assert re.findall(r"://\w*:[^$@\s]+@", TEXT) == []


def test_the_example_asks_for_all_that_is_required_and_fills_in_nothing() -> None:
    example = (ROOT / ".env.example").read_text()
    asked = dict(re.findall(r"^(\w+)=(.*)$", example, re.MULTILINE))
    offered = dict(re.findall(r"^#(\w+)=(.*)$", example, re.MULTILINE))
    passed_on = {name for name, value in SERVICES["airflow-worker"]["environment"].items() if value is None}

    assert asked == {name: "" for name, default in VARIABLES if default.startswith(":?")}
    assert offered.keys() == {name for name, _ in VARIABLES} - asked.keys() | passed_on | {"COMPOSE_PROFILES"}
    assert [name for name, value in offered.items() if SECRET.search(name) and value] == []


def test_images_are_pinned() -> None:
    images = [service["image"] for service in SERVICES.values()] + re.findall(r"^FROM (\S+)", DOCKERFILE, re.MULTILINE)

    assert [image for image in images if not re.search(r":\d+\.\d+[\w.-]*$", image)] == []


def test_the_image_is_of_this_version_on_the_airflow_of_the_requirements() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    requirements = (ROOT / "requirements.txt").read_text()
    airflow = re.search(r"^apache-airflow==(\S+)", requirements, re.MULTILINE)

    assert {SERVICES[name]["image"] for name in (INIT, *LAYOUT)} == {f"squadron:{project['version']}"}
    assert airflow and f"FROM apache/airflow:{airflow[1]}-python3.11\n" in DOCKERFILE
    assert {"celery", "redis", "psycopg2-binary"} <= set(re.findall(r"^([\w-]+)==", requirements, re.MULTILINE))


def test_folders_that_are_mounted_are_there_and_cannot_be_written_to() -> None:
    mounts = {mount for service in SERVICES.values() for mount in service.get("volumes", ()) if mount[0] == "."}

    assert mounts
    for mount in mounts:
        source, _, mode = mount.split(":")
        assert (ROOT / source).is_dir() and mode == "ro"


def test_volumes_are_declared_and_used() -> None:
    used = {mount.split(":")[0] for service in SERVICES.values() for mount in service.get("volumes", ())}

    assert {name for name in used if name[0] != "."} == COMPOSE["volumes"].keys()


def test_all_tasks_share_the_state_and_none_sees_the_passwords() -> None:
    mounted = {name: {mount.split(":")[0] for mount in SERVICES[name]["volumes"]} for name in (INIT, *LAYOUT)}

    assert {name for name, sources in mounted.items() if "squadron" not in sources} == {INIT}
    assert {name for name, sources in mounted.items() if "passwords" in sources} == {INIT, "airflow-apiserver"}


def test_there_can_be_many_workers_that_see_the_same() -> None:
    worker = SERVICES["airflow-worker"]

    assert not {"container_name", "hostname", "ports", "deploy"} & worker.keys()
    assert {"logs:/opt/airflow/logs", "squadron:/opt/airflow/.squadron"} <= set(worker["volumes"])


def test_ports_are_open_on_this_machine_alone() -> None:
    ports = [port for service in SERVICES.values() for port in service.get("ports", ())]

    assert ports
    assert [port for port in ports if not port.startswith("127.0.0.1:")] == []


def test_the_dockerfile_copies_what_is_there_and_in_the_build_context() -> None:
    ignored = (ROOT / ".dockerignore").read_text().splitlines()
    copied = [
        source
        for line in re.findall(r"^COPY (.+)", DOCKERFILE, re.MULTILINE)
        for source in shlex.split(line)[:-1]
        if not source.startswith("--")
    ]

    assert "*" in ignored
    assert [source for source in copied if not (ROOT / source).exists()] == []
    assert {line[1:] for line in ignored if line.startswith("!")} == set(copied)


def test_options_and_commands_are_airflows(tmp_path: Path) -> None:
    environment = SERVICES["airflow-worker"]["environment"]
    options = [name.removeprefix("AIRFLOW__").lower() for name in environment if name.startswith("AIRFLOW__")]
    commands = [line[1:] for line in _command_lines() if line[0] == "airflow"]
    program = """
import json, sys
from airflow.cli.cli_parser import get_parser
from airflow.configuration import conf
options, commands = json.load(sys.stdin)
described = conf.configuration_description
for section, _, option in (name.partition("__") for name in options):
    assert option in described.get(section, {"options": ()})["options"], f"no option [{section}] {option}"
for command in commands:
    get_parser().parse_args(command)
"""
    done = subprocess.run(
        [sys.executable, "-c", program],
        input=json.dumps([options, commands]),
        env={**os.environ, "AIRFLOW_HOME": str(tmp_path), "AIRFLOW__CORE__EXECUTOR": "CeleryExecutor"},
        capture_output=True,
        text=True,
    )

    assert done.returncode == 0, done.stderr
    assert len(options) > 10 and ["jobs", "check", "--job-type", "TriggererJob", "--local"] in commands


def test_the_password_of_env_becomes_the_login(tmp_path: Path) -> None:
    password, folder = 'quote " dollar $HOME', tmp_path / "programs"
    folder.mkdir()
    (folder / "airflow").write_text('#!/bin/sh\necho "$@" >> called\n')  # it says so, and needs no database
    (folder / "airflow").chmod(0o755)
    (folder / "python").symlink_to(sys.executable)
    environment = {
        "PATH": f"{folder}:{os.environ['PATH']}",
        "AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_PASSWORDS_FILE": str(tmp_path / "passwords.json"),
        "ADMIN_PASSWORD": password,
    }

    subprocess.run(_container_command(INIT), env=environment, cwd=tmp_path, check=True)

    assert json.loads((tmp_path / "passwords.json").read_text()) == {"admin": password}
    assert (tmp_path / "passwords.json").stat().st_mode & 0o077 == 0
    assert (tmp_path / "called").read_text() == "db migrate\n"


def test_every_part_sees_the_pools_that_it_makes_at_its_start() -> None:
    copied = set(re.findall(r"^COPY --chown=\S+ (\w+)/ ", DOCKERFILE, re.MULTILINE))

    assert {"config", "plugins"} <= copied and (ROOT / "plugins" / "embedding_pools.py").exists()
    for name in LAYOUT:
        assert "./config:/opt/airflow/config:ro" in SERVICES[name]["volumes"]


def _command_lines() -> Iterator[list[str]]:
    """What the services run, what their health checks run, and the lines of the script of the first."""
    for name in LAYOUT:
        yield ["airflow", *shlex.split(SERVICES[name]["command"])]
        check = SERVICES[name]["healthcheck"]["test"]
        yield check[1:] if check[0] == "CMD" else shlex.split(check[1])
    yield from (shlex.split(line) for line in _container_command(INIT)[-1].splitlines() if line.startswith("airflow "))


def _container_command(name: str) -> list[str]:
    """A command as the container sees it."""
    return [part.replace("$$", "$") for part in SERVICES[name]["command"]]
