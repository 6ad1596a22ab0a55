"""A real Airflow on this machine: api-server, scheduler and dag-processor on SQLite, spoken to over REST."""

import base64
import contextlib
import json
import os
import shutil
import socket
import sqlite3
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path
from typing import Any

from filelock import FileLock

ROOT = Path(__file__).resolve().parents[2]
PARTS = ("api-server", "scheduler", "dag-processor")


def airflow_environment(home: Path) -> dict[str, str]:
    """The environment of an Airflow whose files are below `home`."""
    port = free_port()
    return {
        **{name: value for name, value in os.environ.items() if not name.startswith("AIRFLOW")},
        "AIRFLOW_HOME": str(home),
        "SQUADRON_ALLOWED_PATHS": "*",
        "AIRFLOW__CORE__DAGS_FOLDER": str(ROOT / "dags"),
        "AIRFLOW__CORE__PLUGINS_FOLDER": str(ROOT / "plugins"),
        "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
        "AIRFLOW__CORE__DAGS_ARE_PAUSED_AT_CREATION": "False",
        "AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_USERS": "admin:admin,operator:op,user:user,viewer:viewer",
        # Each part that finds no key makes one of its own, and cannot read what another has encrypted.
        "AIRFLOW__CORE__FERNET_KEY": base64.urlsafe_b64encode(b"of-this-test-alone-32-bytes-long").decode(),
        "AIRFLOW__CORE__EXECUTION_API_SERVER_URL": f"http://127.0.0.1:{port}/execution/",
        "AIRFLOW__CORE__PARALLELISM": "2",
        "AIRFLOW__API__PORT": str(port),
        "AIRFLOW__API__HOST": "127.0.0.1",
        "AIRFLOW__API__BASE_URL": f"http://127.0.0.1:{port}",
        "AIRFLOW__API__WORKERS": "1",
        "AIRFLOW__API_AUTH__JWT_SECRET": "of-this-test-alone-and-long-enough-for-hs512-which-wants-64-bytes!",
        "AIRFLOW__DAG_PROCESSOR__REFRESH_INTERVAL": "5",
        "AIRFLOW__SCHEDULER__SCHEDULER_HEARTBEAT_SEC": "1",
        "AIRFLOW__SCHEDULER__USE_JOB_SCHEDULE": "False",  # a test may run at the hour of the nightly run
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
    }


def run_airflow(environment: dict[str, str], *arguments: str) -> str:
    """The output of one `airflow` command."""
    done = subprocess.run(["airflow", *arguments], env=environment, capture_output=True, text=True, timeout=180)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def make_database(environment: dict[str, str]) -> None:
    """Make the SQLite database of an Airflow: a copy of what `airflow db migrate` makes, which is kept between runs."""
    home, migrated = Path(environment["AIRFLOW_HOME"]), ROOT / ".pytest_cache" / f"airflow-{version('apache-airflow')}"
    home.mkdir(parents=True, exist_ok=True)
    migrated.parent.mkdir(exist_ok=True)
    with FileLock(f"{migrated}.lock"):  # tests run on several processes
        if not migrated.exists():
            with tempfile.TemporaryDirectory(dir=migrated.parent) as new:
                run_airflow(airflow_environment(Path(new)), "db", "migrate")
                Path(new, "airflow.db").rename(migrated)
    shutil.copy(migrated, home / "airflow.db")


class LocalAirflow:
    """The running parts, as a context manager; `more` are parts beside those that every run needs."""

    def __init__(self, home: Path, more: tuple[str, ...] = (), environment: dict[str, str] | None = None) -> None:
        self._parts = (*PARTS, *more)
        self._environment = airflow_environment(home) | (environment or {})
        self._address = self._environment["AIRFLOW__API__BASE_URL"]
        self._logs = home / "parts"
        self._processes: list[subprocess.Popen[bytes]] = []
        self._token = self._admin = ""

    def __enter__(self) -> "LocalAirflow":
        self._set_up()
        self._logs.mkdir()
        try:
            for part in self._parts:
                self._processes.append(self._started(part))
            self._wait(self._healthy, 180, "Airflow to be healthy")
            self._token, self._admin = self._login("operator"), self._login("admin")
            self._wait(lambda: self.get("dags/vector_ingest")["is_paused"] is False, 60, "the DAG to be there")
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        for process in self._processes:
            os.killpg(process.pid, 15)
        for process in self._processes:
            try:
                process.wait(20)
            except subprocess.TimeoutExpired:
                os.killpg(process.pid, 9)
                process.wait()

    def get(self, path: str) -> Any:
        """The answer of the REST API to a GET."""
        return self._call("GET", f"api/v2/{path}")

    def post(self, path: str, body: dict[str, Any]) -> Any:
        """The answer of the REST API to a POST."""
        return self._call("POST", f"api/v2/{path}", body)

    def patch(self, path: str, body: dict[str, Any]) -> Any:
        """The answer of the REST API to a PATCH."""
        return self._call("PATCH", f"api/v2/{path}", body)

    def page(self, path: str) -> Any:
        """The answer of the page "Vectors" to a GET."""
        return self._call("GET", f"squadron/{path}")

    @contextlib.contextmanager
    def signed_in(self, user: str) -> Iterator[None]:
        """What is asked in the block is asked by another user than `operator`."""
        usual, self._token = self._token, self._login(user)
        try:
            yield
        finally:
            self._token = usual

    def forget_what_was_set(self) -> None:
        """Delete all Variables and Connections."""
        for kind, key in (("variables", "key"), ("connections", "connection_id")):
            for entry in self._call("GET", f"api/v2/{kind}", token=self._admin)[kind]:
                self._call("DELETE", f"api/v2/{kind}/{entry[key]}", token=self._admin)

    def set_variable(self, key: str, value: str) -> None:
        """Set an Airflow Variable as an administrator does."""
        body = {"key": key, "value": value}
        try:
            self._call("POST", "api/v2/variables", body, self._admin)
        except urllib.error.HTTPError as error:
            if error.code != 409:
                raise
            self._call("PATCH", f"api/v2/variables/{key}", body, self._admin)

    def set_connection(self, name: str, kind: str, password: str) -> None:
        """Set an Airflow Connection with a secret as an administrator does."""
        body = {"connection_id": name, "conn_type": kind, "password": password}
        self._call("POST", "api/v2/connections", body, self._admin)

    def log_of_part(self, part: str) -> str:
        """What a part has logged so far."""
        return (self._logs / f"{part}.log").read_text()

    def task_logs(self) -> str:
        """All that the tasks have logged so far, in all files."""
        folder = Path(self._environment["AIRFLOW_HOME"], "logs")
        return "\n".join(path.read_text() for path in folder.rglob("*.log"))

    def database(self) -> dict[str, list[str]]:
        """The rows of every table that has any, as they are stored."""
        path = Path(self._environment["AIRFLOW_HOME"], "airflow.db")
        with contextlib.closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True, timeout=30)) as connection:
            tables = [name for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
            rows = {name: [repr(row) for row in connection.execute(f'SELECT * FROM "{name}"')] for name in tables}
        return {name: found for name, found in rows.items() if found}

    def query(self, sql: str, *values: str) -> list[tuple[Any, ...]]:
        """Rows of Airflow's database: for what its REST API does not tell."""
        path = Path(self._environment["AIRFLOW_HOME"], "airflow.db")
        with contextlib.closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True, timeout=30)) as connection:
            return connection.execute(sql, values).fetchall()

    def run_dag(self, dag: str, conf: dict[str, Any], timeout_seconds: float = 300) -> tuple[str, str]:
        """Trigger a DAG and wait: (run id, state)."""
        run = self.start_dag(dag, conf)
        return run, self.end_of_run(dag, run, timeout_seconds)

    def start_dag(self, dag: str, conf: dict[str, Any]) -> str:
        """Trigger a DAG: the run's id."""
        return self.post(f"dags/{dag}/dagRuns", {"logical_date": None, "conf": conf})["dag_run_id"]

    def end_of_run(self, dag: str, run: str, timeout_seconds: float = 300) -> str:
        """Wait for a run: its state."""
        path = f"dags/{dag}/dagRuns/{run}"
        self._wait(lambda: self.get(path)["state"] in ("success", "failed"), timeout_seconds, f"{dag} to end")
        return self.get(path)["state"]

    def task_in_state(self, dag: str, run: str, task: str, state: str, timeout_seconds: float = 300) -> dict[str, Any]:
        """Wait until an instance of a task is in a state: the instance."""
        found: list[dict[str, Any]] = []

        def look() -> bool:
            if self.get(f"dags/{dag}/dagRuns/{run}")["state"] == "failed":
                raise AssertionError(f"{run} failed before {task} was {state}: {self.task_logs()[-5000:]}")
            instances = self.get(f"dags/{dag}/dagRuns/{run}/taskInstances")["task_instances"]
            found[:] = [each for each in instances if each["task_id"] == task and each["state"] == state]
            return bool(found)

        self._wait(look, timeout_seconds, f"{task} to be {state}")
        return found[0]

    @property
    def environment(self) -> dict[str, str]:
        """What the parts run in: for a program beside them."""
        return self._environment

    def wait_for(self, done: Any, what: str, timeout_seconds: float = 120) -> None:
        """Wait until `done()` is true."""
        self._wait(done, timeout_seconds, what)

    def report(self, dag: str, run: str) -> dict[str, Any]:
        """What the run's last task returned."""
        entry = self.get(f"dags/{dag}/dagRuns/{run}/taskInstances/promote/xcomEntries/return_value")
        value = entry["value"]
        return json.loads(value) if isinstance(value, str) else value

    def log_of(self, dag: str, run: str, task: str) -> str:
        """The log of a task's first try."""
        answer = self.get(f"dags/{dag}/dagRuns/{run}/taskInstances/{task}/logs/1?full_content=true")
        return json.dumps(answer["content"], ensure_ascii=False)

    def environment_of(self, part: str) -> dict[str, str]:
        """What a part runs in: here the same for all."""
        return self._environment

    def _set_up(self) -> None:
        make_database(self._environment)

    def _command(self, part: str) -> list[str]:
        return ["airflow", part]

    def _started(self, part: str) -> "subprocess.Popen[bytes]":
        with (self._logs / f"{part}.log").open("wb") as log:
            return subprocess.Popen(
                self._command(part), env=self.environment_of(part), stdout=log, stderr=log, start_new_session=True
            )

    def _healthy(self) -> bool:
        for part, process in zip(self._parts, self._processes, strict=True):
            if process.poll() is not None:
                raise AssertionError(f"{part} ended: {(self._logs / f'{part}.log').read_text()[-3000:]}")
        health = self.get("monitor/health")
        return all(health[part]["status"] == "healthy" for part in ("metadatabase", "scheduler", "dag_processor"))

    def _login(self, user: str) -> str:
        usual = Path(self._environment["AIRFLOW_HOME"], "simple_auth_manager_passwords.json.generated")
        passwords = Path(self._environment.get("AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_PASSWORDS_FILE", usual))
        body = {"username": user, "password": json.loads(passwords.read_text())[user]}
        return self._call("POST", "auth/token", body)["access_token"]

    def _call(self, method: str, path: str, body: dict[str, Any] | None = None, token: str | None = None) -> Any:
        """The answer to a request of the operator's, or of whose `token` is given."""
        headers = {"Content-Type": "application/json", "Accept": "application/json"}
        if token or self._token:
            headers["Authorization"] = f"Bearer {token or self._token}"
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(f"{self._address}/{path}", data, headers, method=method)
        with urllib.request.urlopen(request, timeout=30) as answer:
            text = answer.read()
            return json.loads(text) if text else None

    def _wait(self, done: Any, seconds: float, what: str) -> None:
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            try:
                if done():
                    return
            except (OSError, urllib.error.HTTPError):
                pass  # not up yet
            time.sleep(0.5)
        logs = "\n".join(f"--- {path.name}\n{path.read_text()[-2000:]}" for path in self._logs.glob("*.log"))
        raise AssertionError(f"waited {seconds} s for {what}\n{logs}")


def free_port() -> int:
    """A port that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
