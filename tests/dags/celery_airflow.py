"""Airflow as docker-compose.yaml starts it, but natively: CeleryExecutor on a Postgres and a Redis of the tests' own.

Commands, environment and health checks are read from docker-compose.yaml, the files are put where the Dockerfile puts
them. What containers have of their own and one machine has once is all that differs: addresses, ports, host names.
"""

import base64
import os
import re
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.metadata import distributions
from pathlib import Path
from typing import Any

import yaml

from tests.dags.local_airflow import LocalAirflow, free_port
from tests.stores import postgres

ROOT = Path(__file__).resolve().parents[2]
SERVICES: dict[str, Any] = yaml.safe_load((ROOT / "docker-compose.yaml").read_text())["services"]
IMAGE_HOME = "/opt/airflow"
INIT, WORKER, SERVER = "airflow-init", "airflow-worker", "airflow-apiserver"
OTHERS = (SERVER, "airflow-scheduler", "airflow-dag-processor", "airflow-triggerer")
WORKERS = ("worker-1", "worker-2")


@dataclass(frozen=True)
class Backends:
    """What `postgres` and `redis` are in the compose file."""

    postgres: postgres.Postgres
    redis_port: int


def missing() -> str | None:
    """What is not on this machine, of what must be."""
    if not shutil.which("redis-server"):
        return "no Redis is here: apt-get install redis-server"
    if not list(distributions(name="apache-airflow-providers-celery")):
        return "the Celery provider is not here: pip install apache-airflow-providers-celery"
    return None if postgres.programs() else postgres.WANTED


@contextmanager
def backends() -> Iterator[Backends]:
    """A Postgres with the role and database that the compose file names, and a Redis; gone at the end."""
    place, port = postgres.programs(), free_port()
    assert place
    with postgres.running(place) as server:
        _execute(
            server, f"CREATE ROLE airflow LOGIN PASSWORD '{server.password}'", "CREATE DATABASE airflow OWNER airflow"
        )
        command = ["redis-server", "--bind", "127.0.0.1", "--port", str(port), "--save", "", "--appendonly", "no"]
        redis = subprocess.Popen(command, stdout=subprocess.DEVNULL)
        try:
            _wait_for_port(port)
            yield Backends(server, port)
        finally:
            redis.terminate()
            redis.wait()


class CeleryAirflow(LocalAirflow):
    """All parts of the compose file, its worker once for each name; `more` is environment beside the file's."""

    def __init__(
        self, home: Path, backends: Backends, workers: tuple[str, ...] = WORKERS, more: dict[str, str] | None = None
    ) -> None:
        super().__init__(home)
        self._parts = (*OTHERS, *workers)
        self._home, self._backends, self._port = home, backends, free_port()
        self._given = _secrets(backends.postgres.password)
        self._more = _ports() | {
            "AIRFLOW__API__PORT": str(self._port),
            "AIRFLOW__SCHEDULER__USE_JOB_SCHEDULE": "False",  # it may be the hour of the nightly run
            # A user beside the compose file's admin, who may trigger DAGs and no more.
            "AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_USERS": "admin:admin,operator:op",
            "AIRFLOW__CORE__HOSTNAME_CALLABLE": "tests.dags.celery_airflow.container_name",
            "SQUADRON_ALLOWED_PATHS": "*",
            **(more or {}),
        }
        self._address = f"http://127.0.0.1:{self._port}"
        self._environment = self.environment_of(SERVER)

    def environment_of(self, part: str) -> dict[str, str]:
        """What a part runs in: the machine's environment, the image's, the compose file's, and what is given here."""
        usual = {name: value for name, value in os.environ.items() if not name.startswith(("AIRFLOW", "SQUADRON"))}
        values = SERVICES[_service(part)]["environment"]
        return {
            **usual,
            "AIRFLOW_HOME": str(self._home),
            "SQUADRON_HOME": str(self._home),
            "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
            "PYTHONPATH": str(ROOT),
            "HOSTNAME": part,
            **{name: self._native(str(value)) for name, value in values.items() if value is not None},
            **self._more,
        }

    def check(self, part: str) -> subprocess.CompletedProcess[str]:
        """What the health check of the compose file says of a part."""
        kind, *command = SERVICES[_service(part)]["healthcheck"]["test"]
        shell = ["bash", "-c"] if kind == "CMD-SHELL" else []
        return subprocess.run(
            [*shell, *(self._native(each) for each in command)],
            env=self.environment_of(part),
            capture_output=True,
            text=True,
            timeout=180,
        )

    def start_worker(self, name: str) -> None:
        """One more worker, which takes tasks when this returns."""
        self._parts = (*self._parts, name)
        self._processes.append(self._started(name))
        self.wait_for_worker(name)

    def wait_for_worker(self, name: str) -> None:
        """Wait until a worker takes tasks: it has said so."""
        self.wait_for(lambda: "ready." in self.log_of_part(name), f"{name} to be ready", 180)

    def process_of(self, part: str) -> int:
        """The process id of a part."""
        return self._processes[self._parts.index(part)].pid

    def kill(self, part: str) -> None:
        """End a part and all that it has started, at once: as when its machine is switched off."""
        number = self._parts.index(part)
        os.killpg(self._processes[number].pid, signal.SIGKILL)
        self._processes[number].wait()
        self._parts = (*self._parts[:number], *self._parts[number + 1 :])
        del self._processes[number]

    def instances(self, run: str, task: str, dag: str = "vector_ingest") -> list[dict[str, Any]]:
        """The instances of a task of a run, in the order of their shards."""
        found = self.get(f"dags/{dag}/dagRuns/{run}/taskInstances")["task_instances"]
        return sorted((each for each in found if each["task_id"] == task), key=lambda each: each["map_index"])

    def _set_up(self) -> None:
        """The files of the image, then what the service airflow-init does."""
        for source, target in re.findall(r"^COPY \S+ (\w+)/ (\S+)/$", (ROOT / "Dockerfile").read_text(), re.MULTILINE):
            if target.startswith(IMAGE_HOME):
                shutil.copytree(ROOT / source, self._native(target), ignore=shutil.ignore_patterns("__pycache__"))
        (self._home / "passwords").mkdir()
        command = [self._native(part) for part in SERVICES[INIT]["command"]]
        done = subprocess.run(command, env=self.environment_of(INIT), capture_output=True, text=True, timeout=300)
        assert done.returncode == 0, done.stdout + done.stderr

    def _command(self, part: str) -> list[str]:
        command = ["airflow", *SERVICES[_service(part)]["command"].split()]
        return [*command, "--celery-hostname", f"celery@{part}"] if _service(part) == WORKER else command

    def _native(self, text: str) -> str:
        """What stands in the compose file, for this machine: variables filled in, places and addresses replaced."""
        text = re.sub(r"(?<!\$)\$\{(\w+)(?::([-?])([^}]*))?\}", self._filled, text).replace("$$", "$")
        socket_folder = self._backends.postgres.uri.partition("host=")[2]
        return (
            text.replace(IMAGE_HOME, str(self._home))
            .replace("@postgres/airflow", f"@/airflow?host={socket_folder}")
            .replace("redis:6379", f"127.0.0.1:{self._backends.redis_port}")
            .replace("airflow-apiserver:8080", f"127.0.0.1:{self._port}")
            .replace("localhost:8080", f"127.0.0.1:{self._port}")
            .replace(
                "localhost:8974", f"127.0.0.1:{self._more['AIRFLOW__SCHEDULER__SCHEDULER_HEALTH_CHECK_SERVER_PORT']}"
            )
        )

    def _filled(self, found: re.Match[str]) -> str:
        name, kind, default = found.groups()
        assert kind != "?" or name in self._given, f"the compose file asks for {name}"
        return self._given.get(name) or default or ""


def container_name() -> str:
    """The host name that a part has in a container of its own: Airflow asks this."""
    return os.environ["HOSTNAME"]


def _service(part: str) -> str:
    return part if part in SERVICES else WORKER


def _secrets(postgres_password: str) -> dict[str, str]:
    """What .env.example asks for, and one task at a time on each worker."""
    return {
        "AIRFLOW_FERNET_KEY": base64.urlsafe_b64encode(secrets.token_bytes(32)).decode(),
        "AIRFLOW_JWT_SECRET": secrets.token_hex(64),
        "AIRFLOW_API_SECRET_KEY": secrets.token_hex(64),
        "AIRFLOW_ADMIN_PASSWORD": secrets.token_hex(8),
        "POSTGRES_PASSWORD": postgres_password,
        "WORKER_CONCURRENCY": "1",
    }


def _ports() -> dict[str, str]:
    """Ports that each container has for itself."""
    return {
        "AIRFLOW__SCHEDULER__SCHEDULER_HEALTH_CHECK_SERVER_PORT": str(free_port()),
        "AIRFLOW__LOGGING__TRIGGER_LOG_SERVER_PORT": str(free_port()),
    }


def _execute(server: postgres.Postgres, *statements: str) -> None:
    import psycopg

    with psycopg.connect(server.uri, password=server.password, autocommit=True) as connection:
        for statement in statements:
            connection.execute(statement)  # type: ignore[call-overload]


def _wait_for_port(port: int, seconds: float = 60) -> None:
    deadline = time.monotonic() + seconds
    while True:
        try:
            socket.create_connection(("127.0.0.1", port), 1).close()
            return
        except OSError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.1)
