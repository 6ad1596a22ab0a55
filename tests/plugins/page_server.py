"""The page in an api-server, spoken to as users of several roles."""

import http.client
import json
import subprocess
import time
from pathlib import Path
from typing import Any

from tests.dags.local_airflow import airflow_environment, make_database

USERS = ("viewer", "user", "operator")


class PageClient:
    """The page of the api-server that has an environment, spoken to as its users.

    They are those of Airflow's simple auth manager, or those whose `passwords` are given.
    """

    def __init__(self, environment: dict[str, str], passwords: dict[str, str] | None = None) -> None:
        self.environment = environment
        self._passwords = passwords
        self.port = int(environment["AIRFLOW__API__PORT"])
        self.address = environment["AIRFLOW__API__BASE_URL"]
        self._tokens: dict[str, str] = {}

    def log_in(self) -> None:
        """Get a token for each user. Raises OSError when the server is not up yet."""
        self._tokens = {name: self._login(name) for name in self._passwords or USERS}

    def token(self, user: str) -> str:
        """What the user's browser keeps in the cookie `_token`."""
        return self._tokens[user]

    def get(self, path: str, user: str | None) -> tuple[int, Any]:
        """Status and answer of the page's application to a GET."""
        return self.call("GET", f"/squadron/{path}", headers=self._as(user))

    def post(self, path: str, user: str | None, body: dict[str, Any], **headers: str) -> tuple[int, Any]:
        """Status and answer to a POST of JSON."""
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        sent = {"Content-Type": "application/json"} | named | self._as(user)
        return self.call("POST", f"/squadron/{path}", json.dumps(body), sent)

    def call(self, method: str, path: str, body: str | None = None, headers: Any = None) -> tuple[int, Any]:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=300)
        try:
            connection.request(method, path, body, headers or {})
            answer = connection.getresponse()
            text = answer.read().decode()
        finally:
            connection.close()
        is_json = answer.headers.get_content_type() == "application/json"
        return answer.status, json.loads(text) if is_json and text else text

    def _as(self, user: str | None) -> dict[str, str]:
        return {"Cookie": f"_token={self._tokens[user]}"} if user else {}

    def _login(self, user: str) -> str:
        generated = Path(self.environment["AIRFLOW_HOME"], "simple_auth_manager_passwords.json.generated")
        password = (self._passwords or json.loads(generated.read_text()))[user]
        body = json.dumps({"username": user, "password": password})
        return self.call("POST", "/auth/token", body, {"Content-Type": "application/json"})[1]["access_token"]


class PageServer(PageClient):
    """An api-server of a test's own, as a context manager; its database exists before it starts, so that runs can.

    The auth manager that `environment` names has to know the users by then.
    """

    def __init__(self, home: Path, environment: dict[str, str], passwords: dict[str, str]) -> None:
        super().__init__(airflow_environment(home) | environment, passwords)
        self._log = home / "api-server.log"
        make_database(self.environment)

    def __enter__(self) -> "PageServer":
        with self._log.open("wb") as log:
            self._process = subprocess.Popen(["airflow", "api-server"], env=self.environment, stdout=log, stderr=log)
        deadline = time.monotonic() + 300
        while True:
            assert self._process.poll() is None and time.monotonic() < deadline, self._log.read_text()[-3000:]
            try:
                self.log_in()
                return self
            except OSError:
                time.sleep(0.2)  # not up yet

    def __exit__(self, *_: object) -> None:
        self._process.terminate()
        try:
            self._process.wait(30)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
