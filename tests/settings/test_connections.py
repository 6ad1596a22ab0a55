"""`connection://NAME` without Airflow: the environment holds the Connection, as Airflow's own variable does."""

import json
import subprocess
import sys
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import pytest

from squadron.errors import SettingsError
from squadron.generations import catalog
from squadron.settings import connections
from squadron.settings.schema import Settings
from tests.whole_runs import run

SECRET = "of-connections-0123456789"


def connection(**values: object) -> str:
    return json.dumps({"conn_type": "lancedb", **values})


def test_a_run_and_a_search_find_the_place_that_the_variable_names(
    settings_with: Callable[..., Settings], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("AIRFLOW_CONN_OWN", connection(host=str(tmp_path / "elsewhere")))
    settings = settings_with(**{"store.lancedb.uri": "connection://own", "source.limit": 10})

    done = run(settings)

    assert done.promotion.live in {path.stem for path in (tmp_path / "elsewhere").glob("*.lance")}
    direct = settings_with(**{"store.lancedb.uri": str(tmp_path / "elsewhere"), "source.limit": 10})
    assert [row["generation"] for row in catalog.generations(direct)] == [done.promotion.live]


def test_the_keys_go_to_the_object_store_and_into_no_setting_and_no_environment(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    asked: list[str] = []

    class Bucket(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked.append(str(self.headers["Authorization"]))
            body = b"<ListBucketResult><Name>b</Name><IsTruncated>false</IsTruncated></ListBucketResult>"
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Bucket)
    Thread(target=server.serve_forever, daemon=True).start()
    extra = {"endpoint": f"http://127.0.0.1:{server.server_port}", "region": "eu-test-1"}
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_ENDPOINT", "AWS_REGION"):
        monkeypatch.delenv(name, raising=False)
    text = connection(host="s3://b/vectors", login="AKIDTEST", password=SECRET, extra=json.dumps(extra))
    monkeypatch.setenv("AIRFLOW_CONN_BUCKET", text)

    from squadron.settings.store_sections import LanceDBSettings
    from squadron.stores.lancedb.store import client

    settings = LanceDBSettings(uri="connection://bucket")
    database = client(settings)
    server.shutdown()
    server.server_close()

    assert asked and all("Credential=AKIDTEST/" in each and "/eu-test-1/s3/" in each for each in asked)
    assert SECRET not in repr(database) + repr(settings) + repr(connections.of_environment("bucket"))


@pytest.mark.parametrize(
    ("text", "told"),
    [
        (None, "there is no Connection 'own'. In Airflow, add it"),
        ("lancedb://key:very-secret@bucket", "the variable AIRFLOW_CONN_OWN is not a JSON object: wanted one like"),
        ('["very-secret"]', "the variable AIRFLOW_CONN_OWN is not a JSON object"),
        ('{"conn_type": "aws", "password": "very-secret"}', "is of type 'aws': wanted lancedb"),
        ('{"conn_type": "lancedb", "password": "very-secret"}', "has no address: wanted a folder"),
    ],
)
def test_what_cannot_be_used_is_told_without_what_it_holds(
    text: str | None, told: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("AIRFLOW_CONN_OWN", raising=False)
    if text:
        monkeypatch.setenv("AIRFLOW_CONN_OWN", text)

    with pytest.raises(SettingsError) as refused:
        connections.located("connection://own")

    assert told in str(refused.value)
    assert "very-secret" not in str(refused.value)


def test_a_connection_without_a_name_is_refused() -> None:
    with pytest.raises(SettingsError, match="there is no Connection ''"):
        connections.located("connection://")


def test_the_command_line_says_what_to_do(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "squadron", "generations", "--set=store.lancedb.uri=connection://nowhere"]

    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=120)

    assert done.returncode == 2
    assert "set the variable AIRFLOW_CONN_NOWHERE to" in done.stderr
