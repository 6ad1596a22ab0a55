"""The page under the Flask-AppBuilder auth manager, with its own roles; skipped where that provider is not installed.

It is none of this project's requirements: it wants another version of python-dateutil than the other packages have.
"""

import json
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from squadron.runs import whole_run
from squadron.settings.layers import Layer, resolve
from tests.dags.local_airflow import ROOT
from tests.plugins.conftest import Page
from tests.plugins.page_server import PageServer
from tests.whole_runs import live

pytest.importorskip("airflow.providers.fab", reason="apache-airflow-providers-fab is not installed")
pytestmark = [pytest.mark.airflow, pytest.mark.slow, pytest.mark.xdist_group("page under fab")]

ROLES = {
    "viewer": "Viewer",
    "user": "User",
    "op": "Op",
    "admin": "Admin",
    "nobody": "Public",
    "one": "One",
    "dag": "Dag",
}
# What the roles of our own may: one DAG and its runs; one DAG alone.
DAG = ("can_read", "DAG:vector_ingest_sample")
OWN = {"One": [DAG, ("can_read", "DAG Runs")], "Dag": [DAG]}
SETUP = """
import json, sys
from airflow.providers.fab.auth_manager.cli_commands.utils import get_application_builder
users, own = json.loads(sys.argv[1])
with get_application_builder() as builder:
    manager = builder.sm
    manager.sync_roles()
    for name, allowed in own.items():
        role = manager.add_role(name)
        for action, resource in allowed:
            manager.add_permission_to_role(role, manager.create_permission(action, resource))
    for name, (role, password) in users.items():
        assert manager.add_user(name, name, "Test", name + "@example.org", manager.find_role(role), password)
"""


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Page]:
    folder = tmp_path_factory.mktemp("fab")
    places = {"store.lancedb.uri": "lancedb", "ingest.staging": "staging", "cache.path": "cache"}
    values = {name: str(folder / place) for name, place in places.items()}
    values |= {"collection": "sample", "embedding.service": "hashing", "source.limit": "20"}
    settings = resolve([Layer("test", values, ROOT)]).settings
    first = whole_run.ingest(settings)["generation"]
    changed = resolve([Layer("test", values | {"passages.template": "plain_v1"}, ROOT)]).settings
    second = whole_run.ingest(changed)["generation"]
    passwords = {name: f"of-{name}-0123456789" for name in ROLES}
    environment = {
        "AIRFLOW__CORE__AUTH_MANAGER": "airflow.providers.fab.auth_manager.fab_auth_manager.FabAuthManager",
        "AIRFLOW_VAR_VECTOR_INGEST": json.dumps({key: value for key, value in values.items() if key != "collection"}),
    }
    server = PageServer(folder / "airflow", environment, passwords)
    users = {name: (role, passwords[name]) for name, role in ROLES.items()}
    _in_airflow(server, "-c", SETUP, json.dumps([users, OWN]))
    _in_airflow(server, "-m", "airflow", "dags", "reserialize")
    with server:
        yield Page(server, settings, first, second)


@pytest.mark.parametrize("user", ["viewer", "user", "op", "admin"])
def test_the_roles_see_and_search(page: Page, user: str) -> None:
    status, shown = page.server.get("api/collections/sample", user)
    assert (status, shown["may_move"]) == (200, user != "viewer")
    assert [row["generation"] for row in shown["generations"]] == [page.second, page.first]
    assert page.server.get("api/collections/sample/runs", user) == (200, {"runs": []})

    status, found = page.server.post("api/collections/sample/search", user, {"question": "steel", "top_k": 3})

    assert (status, len(found["matches"])) == (200, 3)


@pytest.mark.parametrize("user", ["user", "op", "admin"])
def test_who_may_trigger_the_dag_moves_what_is_live_and_is_named(page: Page, user: str) -> None:
    status, answer = page.server.post("api/collections/sample/rollback", user, {"expected_live": page.second})
    assert (status, answer.get("live")) == (200, page.first), answer
    body = {"expected_live": page.first, "generation": page.second}
    assert page.server.post("api/collections/sample/promote", user, body)[0] == 200
    assert live(page.settings) == page.second

    token = {"Authorization": f"Bearer {page.server.token('admin')}"}
    log = page.server.call("GET", "/api/v2/eventLogs?order_by=-id", headers=token)[1]
    owners = [each["owner"] for each in log["event_logs"] if each["event"].startswith("squadron")]
    assert owners[:2] == [user, user]


@pytest.mark.parametrize("user", ["viewer", "one", "dag"])
def test_who_may_only_look_moves_nothing(page: Page, user: str) -> None:
    body = {"expected_live": page.second, "generation": page.first}

    assert page.server.post("api/collections/sample/promote", user, body)[0] == 403
    assert page.server.post("api/collections/sample/rollback", user, body)[0] == 403
    assert live(page.settings) == page.second


def test_a_role_of_one_dag_sees_its_collection_alone(page: Page) -> None:
    status, answer = page.server.get("api/collections", "one")

    assert (status, [each["collection"] for each in answer["collections"]]) == (200, ["sample"])
    assert page.server.get("api/collections/sample", "one")[0] == 200
    assert page.server.get("api/collections/sample/runs", "one")[0] == 200
    assert page.server.get("api/collections/squad", "one")[0] == 404
    assert page.server.post("api/collections/squad/search", "one", {"question": "steel"})[0] == 404


def test_a_role_that_may_not_see_runs_sees_none(page: Page) -> None:
    assert page.server.get("api/collections/sample", "dag")[0] == 200

    status, answer = page.server.get("api/collections/sample/runs", "dag")

    assert status == 403
    assert "to see runs" in answer["detail"]


def test_a_user_without_permissions_sees_nothing_and_a_stranger_is_refused(page: Page) -> None:
    assert page.server.get("api/collections", "nobody") == (200, {"collections": []})
    assert page.server.get("api/collections/sample", "nobody")[0] == 404
    assert page.server.get("api/collections", None)[0] == 401


def test_users_who_come_at_once_do_not_hinder_each_other(page: Page) -> None:
    asked = [(path, user) for path in ("", "/sample", "/sample/runs") for user in ("viewer", "user", "op", "admin")] * 5

    with ThreadPoolExecutor(12) as threads:
        answers = list(threads.map(lambda each: page.server.get(f"api/collections{each[0]}", each[1])[0], asked))

    assert set(answers) == {200}


def _in_airflow(server: PageServer, *arguments: str) -> Any:
    command = [sys.executable, *arguments]
    done = subprocess.run(command, env=server.environment, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stdout + done.stderr
