"""The page's application in a real api-server: who may see and do what, and what is answered."""

import json
import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from squadron.generations import live_pointer
from squadron.runs import whole_run
from squadron.settings.layers import Layer, resolve
from tests.dags.local_airflow import ROOT
from tests.plugins.conftest import BLANK, HOSTILE, Page
from tests.whole_runs import live

pytestmark = [pytest.mark.airflow, pytest.mark.xdist_group("airflow")]

BOOKS = "api/collections/books"
STATIC = ROOT / "plugins" / "squadron_web" / "static"


@pytest.fixture
def as_it_was(page: Page) -> Iterator[None]:
    """The second generation is live after the test, as before."""
    yield
    if live(page.settings) != page.second:
        live_pointer.promote_generation(page.settings, page.second)


@pytest.mark.parametrize(
    "path", ["", "static/page.js", "api/collections", BOOKS, f"{BOOKS}/runs", f"{BOOKS}/graph.svg"]
)
def test_strangers_are_refused(page: Page, path: str) -> None:
    assert page.server.get(path, None)[0] == 401


@pytest.mark.parametrize("path", ["search", "promote", "rollback"])
def test_strangers_may_not_post(page: Page, path: str) -> None:
    assert page.server.post(f"{BOOKS}/{path}", None, {"question": "?", "expected_live": page.second})[0] == 401


def test_a_forged_token_is_refused(page: Page) -> None:
    forged = {"Cookie": f"_token={page.server.token('viewer')[:-4]}AAAA"}

    assert page.server.call("GET", "/squadron/api/collections", headers=forged)[0] in (401, 403)


def test_collections_of_files_and_of_runs_are_listed_the_default_one_first(page: Page) -> None:
    status, answer = page.server.get("api/collections", "viewer")

    assert status == 200
    dags = {each["collection"]: each["dag_id"] for each in answer["collections"]}
    assert next(iter(dags)) == "squad"  # others are those of other tests' runs
    assert (dags["squad"], dags["books"], dags["sample"]) == ("vector_ingest", "vector_ingest", "vector_ingest_sample")


def test_a_viewer_sees_what_is_in_the_store_now(page: Page) -> None:
    status, answer = page.server.get(BOOKS, "viewer")

    assert status == 200
    assert [(row["generation"], row["live"]) for row in answer["generations"]] == [
        (page.second, True),
        (page.first, False),
    ]
    assert answer["previous"] == page.first
    assert answer["may_move"] is False
    second, first = answer["generations"]
    assert second["rows"] == first["rows"] == 21
    assert second["fingerprint"][:8] == page.second.removeprefix("books_")
    changed = {name for name in first["vector_space"] if first["vector_space"][name] != second["vector_space"][name]}
    assert changed == {"template"}


def test_the_run_of_the_dag_is_told_without_paths(page: Page) -> None:
    status, answer = page.server.get(f"{BOOKS}/runs", "viewer")

    assert status == 200
    (run,) = answer["runs"]
    assert (run["generation"], run["state"], run["promoted"], run["embedded"]) == (page.first, "success", True, 21)
    assert (run["service"], run["store"]) == ("hashing", "lancedb")
    assert run["metrics"]["recall_at_10"] > 0.9
    assert run["cost"] == 0
    assert run["plan"]["passages"] - run["plan"]["unchanged"] == 21
    assert run["plan"]["quarantined"] == 1
    assert page.settings.ingest.staging not in json.dumps(answer)


def test_the_quarantine_is_shown(page: Page) -> None:
    status, answer = page.server.get(f"{BOOKS}/quarantine", "viewer")

    assert (status, answer["total"]) == (200, 1)
    assert answer["quarantined"][0]["title"] == BLANK["title"]
    assert "text" in answer["quarantined"][0]["reason"]


def test_a_search_answers_with_scores(page: Page) -> None:
    status, answer = page.server.post(f"{BOOKS}/search", "viewer", {"question": HOSTILE["question"], "top_k": 3})

    assert status == 200
    assert [match["rank"] for match in answer["matches"]] == [1, 2, 3]
    assert answer["matches"][0]["text"] == HOSTILE["context"]
    assert answer["matches"][0]["score"] > answer["matches"][2]["score"]


def test_our_own_errors_are_told_to_the_reader(page: Page) -> None:
    status, answer = page.server.post("api/collections/sample/search", "viewer", {"question": "  "})

    assert (status, answer["detail"]) == (409, "the question is empty: say what to search for")


def test_an_unknown_collection_is_not_there(page: Page) -> None:
    assert page.server.get("api/collections/..%2Fsquad", "operator")[0] == 404
    assert page.server.get("api/collections/none", "operator")[0] == 404
    assert page.server.get("static/..%2Fapplication.py", "operator")[0] == 404


@pytest.mark.parametrize("move", ["promote", "rollback"])
def test_a_viewer_may_not_move_what_is_live(page: Page, move: str) -> None:
    body = {"expected_live": page.second, "generation": page.first}

    status, answer = page.server.post(f"{BOOKS}/{move}", "viewer", body)

    assert status == 403
    assert "allowed to trigger the DAG 'vector_ingest'" in answer["detail"]
    assert live(page.settings) == page.second


def test_users_who_may_trigger_the_dag_roll_back_and_promote(page: Page, as_it_was: None) -> None:
    status, answer = page.server.post(f"{BOOKS}/rollback", "user", {"expected_live": page.second})
    assert (status, answer["live"], answer["previous"]) == (200, page.first, page.second)
    assert live(page.settings) == page.first
    rolled_back = page.server.get(BOOKS, "viewer")[1]["generations"][0]
    assert rolled_back["rolled_back_at"]

    body = {"expected_live": page.first, "generation": page.second}
    status, answer = page.server.post(f"{BOOKS}/promote", "operator", body)
    assert (status, answer["live"]) == (200, page.second)
    assert live(page.settings) == page.second

    token = {"Authorization": f"Bearer {page.server.token('operator')}"}
    log = page.server.call("GET", "/api/v2/eventLogs?dag_id=vector_ingest&order_by=-id", headers=token)[1]
    moves = [(each["event"], each["owner"]) for each in log["event_logs"][::-1] if each["event"].startswith("squadron")]
    assert moves[-2:] == [("squadron_rollback", "user"), ("squadron_promote", "operator")]


def test_a_move_from_what_is_no_longer_live_is_refused(page: Page) -> None:
    status, answer = page.server.post(f"{BOOKS}/rollback", "operator", {"expected_live": page.first})

    assert status == 409
    assert f"{page.second} is live by now" in answer["detail"]
    assert live(page.settings) == page.second


def test_a_generation_that_is_not_there_is_not_promoted(page: Page) -> None:
    body = {"expected_live": page.second, "generation": "books_00000000"}

    status, answer = page.server.post(f"{BOOKS}/promote", "operator", body)

    assert status == 409
    assert page.first in answer["detail"]


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"Content_Type": "text/plain"}, 415),
        ({"Content_Type": "application/x-www-form-urlencoded"}, 415),
        ({"Sec_Fetch_Site": "cross-site", "Origin": "http://elsewhere.example"}, 403),
        ({"Sec_Fetch_Site": "same-site"}, 403),
        ({"Origin": "http://elsewhere.example"}, 403),
        ({"Origin": "null"}, 403),
    ],
)
def test_what_another_site_sends_is_refused(page: Page, headers: dict[str, str], status: int) -> None:
    body = {"expected_live": page.second}

    assert page.server.post(f"{BOOKS}/rollback", "operator", body, **headers)[0] == status
    assert live(page.settings) == page.second


def test_the_graph_is_drawn_or_the_missing_package_named(page: Page) -> None:
    status, answer = page.server.get(f"{BOOKS}/graph.svg", "viewer")

    assert (status == 200 and "<svg" in answer) or (status == 409 and "apt-get install graphviz" in answer["detail"])


def test_a_wrong_variable_is_told_and_the_list_stands(page: Page) -> None:
    wrong = {"key": "vector_ingest", "value": json.dumps({"stor": {}})}

    with set_in_airflow(page, "variables", "vector_ingest", wrong):
        assert page.server.get("api/collections", "viewer")[0] == 200
        status, answer = page.server.get("api/collections/squad", "viewer")

    assert status == 409
    assert "Variable vector_ingest: 'stor' is not a setting" in answer["detail"]


def test_the_page_finds_the_store_by_the_connection_that_the_settings_name(page: Page, tmp_path: Path) -> None:
    secret = "of-page-0123456789"
    places = {"ingest.staging": str(tmp_path / "staging"), "cache.path": None, "source.limit": 10}
    values = {"collection": "sample", "embedding.service": "hashing", "store.lancedb.uri": str(tmp_path / "lancedb")}
    generation = whole_run.ingest(resolve([Layer("test", values | places, tmp_path)]).settings)["generation"]
    variable = {"embedding": {"service": "hashing"}, "store": {"lancedb": {"uri": "connection://vectors"}}}
    body = {"connection_id": "vectors", "conn_type": "lancedb", "host": str(tmp_path / "lancedb"), "password": secret}

    with set_in_airflow(page, "variables", "vector_ingest", {"key": "vector_ingest", "value": json.dumps(variable)}):
        missing = page.server.get("api/collections/sample", "viewer")
        with set_in_airflow(page, "connections", "vectors", body):
            shown = page.server.get("api/collections/sample", "viewer")
            found = page.server.post("api/collections/sample/search", "viewer", {"question": "steel", "top_k": 3})

    assert missing[0] == 409 and "there is no Connection 'vectors'. In Airflow, add it" in missing[1]["detail"]
    assert shown[0] == 200 and [row["generation"] for row in shown[1]["generations"]] == [generation]
    assert found[0] == 200 and len(found[1]["matches"]) == 3
    assert not any(word in json.dumps([shown, found]) for word in (secret, str(tmp_path)))


def test_nothing_is_fetched_from_elsewhere_and_no_data_becomes_markup() -> None:
    for path in STATIC.iterdir():
        text = path.read_text().replace("http://www.w3.org/2000/svg", "")
        assert not re.search(r"https?://|@import|url\(", text), path.name
        assert not re.search(r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|eval\(|srcdoc", text), path.name


def test_importing_the_plugin_imports_no_web_framework(page: Page) -> None:
    code = (
        "import sys, json; from airflow import plugins_manager; plugins_manager.ensure_plugins_loaded();"
        "print(json.dumps([m for m in ('squadron_page', 'squadron_web', 'lancedb', 'hamilton') if m in sys.modules]))"
    )
    done = _python(page, code)

    assert done == ["squadron_page"]


@contextmanager
def set_in_airflow(page: Page, kind: str, name: str, body: dict[str, Any]) -> Iterator[None]:
    """A Variable or a Connection that an operator sets, and takes away again."""
    headers = {"Authorization": f"Bearer {page.server.token('operator')}", "Content-Type": "application/json"}
    status, answer = page.server.call("POST", f"/api/v2/{kind}", json.dumps(body), headers)
    assert status == 201, answer
    try:
        yield
    finally:
        page.server.call("DELETE", f"/api/v2/{kind}/{name}", headers=headers)


def _python(page: Page, code: str) -> Any:
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", code],
        env=page.server.environment,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.strip().splitlines()[-1])
