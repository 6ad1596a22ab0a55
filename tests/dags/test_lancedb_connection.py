"""The Connection type of LanceDB: its form, its test, and a run whose address and keys it holds."""

import json
import re
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import pytest

from tests.dags.local_airflow import ROOT, airflow_environment, make_database
from tests.dags.test_dag import run_python

SECRET = "of-s3-0123456789"


class _Bucket(BaseHTTPRequestHandler):
    """An empty bucket."""

    asked: list[str]

    def do_GET(self) -> None:
        self.asked.append(f"{self.path} {self.headers['Authorization']}")
        body = (
            b'<?xml version="1.0"?><ListBucketResult><Name>b</Name><IsTruncated>false</IsTruncated></ListBucketResult>'
        )
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Nothing is printed."""


@pytest.fixture
def bucket() -> Iterator[tuple[str, list[str]]]:
    """The address of an object store, and what it was asked."""
    handler = type("Bucket", (_Bucket,), {"asked": []})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_address[1]}", handler.asked
    server.shutdown()
    server.server_close()


def connection(host: str, **more: Any) -> str:
    return json.dumps({"conn_type": "lancedb", "host": host, **more})


def test_it_has_a_form_and_its_test_says_what_is_there(tmp_path: Path, bucket: tuple[str, list[str]]) -> None:
    endpoint, asked = bucket
    (tmp_path / "file").write_text("no folder")
    keys = {"login": "AKIDTEST", "password": SECRET, "extra": {"endpoint": endpoint, "region": "eu-test-1"}}
    environment = airflow_environment(tmp_path / "airflow") | {
        "AIRFLOW_CONN_ABSENT": connection(str(tmp_path / "absent")),
        "AIRFLOW_CONN_FILE": connection(str(tmp_path / "file")),
        "AIRFLOW_CONN_EMPTY": connection(""),
        "AIRFLOW_CONN_S3": connection("s3://b/vectors", **keys),
    }
    code = """
import json
from airflow.providers_manager import ProvidersManager
from airflow.sdk import BaseHook
known = ProvidersManager()
form = sorted(name for name in known.connection_form_widgets if name.startswith("extra__lancedb__"))
said = {name: BaseHook.get_connection(name).get_hook().test_connection() for name in ("absent", "file", "empty", "s3")}
print(json.dumps([known.hooks["lancedb"].hook_name, form, known.field_behaviours["lancedb"], said]))
"""

    name, form, behaviour, said = run_python(code, environment)

    assert name == "LanceDB"
    assert form == ["extra__lancedb__endpoint", "extra__lancedb__region"]
    assert behaviour["relabeling"]["host"] == "Folder or URI"
    assert said["absent"] == [True, f"There is nothing at {tmp_path / 'absent'} yet: the first run creates the folder"]
    assert said["file"][0] is said["empty"][0] is False
    assert "is not a folder" in said["file"][1] and "has no address" in said["empty"][1]
    assert said["s3"] == [True, "0 tables at s3://b/vectors"]
    assert re.search("prefix=vectors.* AWS4-HMAC-SHA256 Credential=AKIDTEST/.*/eu-test-1/s3/", asked[0])
    assert SECRET not in json.dumps(said)


def test_a_run_takes_its_address_and_keys_from_the_connection_that_the_settings_name(tmp_path: Path) -> None:
    where = tmp_path / "lancedb"
    environment = airflow_environment(tmp_path / "airflow") | {
        "PYTHONPATH": f"{ROOT / 'dags'}:{ROOT / 'plugins'}",
        "AIRFLOW_CONN_OWN": connection(str(where), login="AKIDTEST", password=SECRET),
        "AIRFLOW_CONN_OTHER": json.dumps({"conn_type": "generic", "password": SECRET}),
    }
    make_database(environment)
    code = """
import json, os
from squadron.settings.connections import storage_options
from squadron.errors import SettingsError
from squadron.settings.schema import Settings
from squadron_tasks.settings import connect
def settings(uri):
    return Settings.model_validate({"store": {"lancedb": {"uri": uri}}})
refused = []
for name in ("other", "none"):
    try:
        connect(settings("connection://" + name))
    except SettingsError as error:
        refused.append(str(error))
found = connect(settings("connection://own"))
uri = found.store.lancedb.uri
print(json.dumps([refused, uri, found.model_dump_json(), storage_options(uri), "AWS_SECRET_ACCESS_KEY" in os.environ,
                  connect(settings("/plain")).store.lancedb.uri]))
"""
    environment = {name: value for name, value in environment.items() if not name.startswith("AWS_")}

    (of_another_type, none), uri, dumped, options, is_in_environment, plain = run_python(code, environment)

    assert of_another_type == "Connection 'other' is of type 'generic': wanted lancedb"
    assert none.startswith("store.lancedb.uri = 'connection://none': there is no Connection 'none'. In Airflow, add it")
    assert (uri, plain) == (str(where), "/plain")
    assert options == {"aws_access_key_id": "AKIDTEST", "aws_secret_access_key": SECRET}
    assert not is_in_environment and SECRET not in dumped
