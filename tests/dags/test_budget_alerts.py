"""Alerts of the budget in Airflow: a run of the DAG calls what the Variable `budget_alert` names."""

import json
import subprocess
import sys
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import pytest

from squadron.runs.plan import plan_run
from squadron.settings.layers import Layer, resolve
from tests.dags.local_airflow import ROOT, airflow_environment

CALLBACKS = """
from airflow.sdk.bases.notifier import BaseNotifier


class Pager(BaseNotifier):
    template_fields = ("line",)

    def __init__(self, line):
        super().__init__()
        self.line = line

    def notify(self, context):
        from budget_alerts import post

        post(context)
        post({"budget": context["budget"] | {"collection": self.line}})
        raise OSError("the pager is out of order")


page = Pager("{{ budget.limit }} in {{ dag_run.dag_id }}, {{ ti.task_id }}: {{ budget.fraction }}")
"""


class _Webhook(BaseHTTPRequestHandler):
    told: list[str]

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.told.append(body["text"])
        self.send_response(200)
        self.end_headers()

    def log_message(self, *_: object) -> None:
        """Nothing is printed."""


@pytest.fixture
def webhook() -> Iterator[tuple[str, list[str]]]:
    """The address of a webhook, and what it was told."""
    handler = type("Webhook", (_Webhook,), {"told": []})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_address[1]}/secret", handler.told
    server.shutdown()
    server.server_close()


@pytest.mark.slow
def test_a_run_calls_it_for_each_share_as_callbacks_of_tasks_are_called_and_goes_on_when_it_fails(
    tmp_path: Path, webhook: tuple[str, list[str]]
) -> None:
    address, told = webhook
    values = {
        "collection": "budgeted",
        "source.name": "sample",
        "source.limit": "40",
        "embedding.service": "hashing",
        "store.lancedb.uri": str(tmp_path / "lancedb"),
        "ingest.staging": str(tmp_path / "staging"),
        "ingest.batch_passages": "5",
        "ingest.shard_passages": "30",
        "cache.path": str(tmp_path / "cache"),
    }
    tokens = plan_run(resolve([Layer("test", values, tmp_path)]).settings, "dry", dry_run=True).estimated_tokens
    (tmp_path / "own_callbacks.py").write_text(CALLBACKS)
    budget = {"budget.max_tokens": str(tokens)}  # it spends exactly that

    done = subprocess.run(
        [sys.executable, "dags", "--json", *(f"--set={key}={value}" for key, value in (values | budget).items())],
        env={
            **airflow_environment(tmp_path / "airflow"),
            "PYTHONPATH": str(tmp_path),
            "AIRFLOW_VAR_BUDGET_ALERT": "own_callbacks.page",
            "AIRFLOW_CONN_BUDGET_ALERTS": json.dumps({"conn_type": "generic", "password": address}),
        },
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=360,
    )

    assert done.returncode == 0, done.stdout + done.stderr
    assert json.loads(done.stdout)["promoted"]
    told_by_post, told_by_templates = told[::2], told[1::2]
    assert [text.split(", ")[0] for text in told_by_post] == [
        f"budgeted: {share} of budget.max_tokens is spent" for share in ("50%", "80%", "100%")
    ]
    assert [text.split(": ")[:2] for text in told_by_templates] == [
        ["budget.max_tokens in vector_ingest, ingest", share] for share in ("0.5", "0.8", "1.0")
    ]
