"""The audit of the dependencies: pip-audit asks a server of ours that speaks as OSV does, or there is none to ask."""

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.wire.loopback import LoopbackHandler, LoopbackServer

AUDIT = Path(__file__).parents[2] / ".ci" / "audit"
BIN = Path(sys.executable).parent
OLD = {("jinja2", "2.4.1"): "PYSEC-2014-8"}
"""What each service of advisories knows."""
FOUND, NOT_ASKED = 1, 75


class Advisories(LoopbackServer):
    """A service that speaks as OSV does; `known`: package and version -> id of a vulnerability."""

    def __init__(self) -> None:
        super().__init__(_Query)
        self.known = OLD | {("unlucky", "1.0"): "PYSEC-2026-1"}
        self.query = f"{self.url}/v1/query"


class _Query(LoopbackHandler):
    def do_POST(self) -> None:  # noqa: N802
        asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        found = self.server.service.known.get((asked["package"]["name"], asked["version"]))
        about = {"id": found, "affected": [{"package": asked["package"], "ranges": []}]}
        self.reply(200, json.dumps({"vulns": [about]} if found else {}).encode(), {})


@pytest.fixture
def advisories() -> Iterator[Advisories]:
    with Advisories() as server:
        yield server


@pytest.fixture(scope="module")
def pip_audit() -> None:
    """It is fetched when it is first used."""
    command = [str(BIN / "uv"), "tool", "run", "--from", "pip-audit==2.10.1", "pip-audit", "--version"]
    done = subprocess.run(command, env=os.environ | {"UV_HTTP_RETRIES": "0"}, capture_output=True, timeout=300)
    if done.returncode:
        pytest.skip("pip-audit could not be fetched")


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A project of one requirement, with the script."""
    (tmp_path / ".ci").mkdir()
    shutil.copy(AUDIT, tmp_path / ".ci")
    (tmp_path / ".ci" / "accepted_vulnerabilities").write_text("# none\n\n")
    (tmp_path / "requirements.txt").write_text("unlucky==1.0\n    # via nothing\n")
    return tmp_path


def audit(project: Path, **environment: str) -> tuple[int, str]:
    """The exit code, and what is said."""
    done = subprocess.run(
        ["sh", str(project / ".ci" / "audit")],
        env=os.environ | {"BIN": str(BIN), "NO_PROXY": "127.0.0.1", "no_proxy": "127.0.0.1"} | environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=300,
    )
    return done.returncode, done.stdout


@pytest.mark.usefixtures("pip_audit")
def test_a_known_vulnerability_is_told_and_fails(project: Path, advisories: Advisories) -> None:
    code, said = audit(project, OSV_URL=advisories.query)
    assert code == FOUND
    assert re.search(r"unlucky +1\.0 +PYSEC-2026-1", said)


@pytest.mark.usefixtures("pip_audit")
def test_requirements_without_one_pass(project: Path, advisories: Advisories) -> None:
    advisories.known = OLD
    code, said = audit(project, OSV_URL=advisories.query)
    assert (code, said) == (0, "No known vulnerabilities found\n")


@pytest.mark.usefixtures("pip_audit")
def test_one_that_was_accepted_passes(project: Path, advisories: Advisories) -> None:
    accepted = "PYSEC-2026-1 2026-11-21 its server is not started here\n"
    (project / ".ci" / "accepted_vulnerabilities").write_text(accepted)
    code, said = audit(project, OSV_URL=advisories.query)
    assert (code, said) == (0, "No known vulnerabilities found, 1 ignored\n")


@pytest.mark.parametrize("line", ["PYSEC-2026-1", "PYSEC-2026-1 2026-11-21", "PYSEC-2026-1 its server is not started"])
def test_one_is_not_accepted_without_a_day_and_a_reason(project: Path, line: str) -> None:
    (project / ".ci" / "accepted_vulnerabilities").write_text(line + "\n")
    code, said = audit(project)
    assert code == FOUND
    assert "wanted an id, a day such as 2026-11-21, and a reason" in said


@pytest.mark.usefixtures("pip_audit")
def test_a_service_that_knows_nothing_gives_no_verdict(project: Path, advisories: Advisories) -> None:
    advisories.known = {}
    code, said = audit(project, OSV_URL=advisories.query)
    assert code == NOT_ASKED
    assert len(said.splitlines()) == 1
    assert "no service tells of any here; osv: No known vulnerabilities found" in said


@pytest.mark.usefixtures("pip_audit")
def test_a_service_that_cannot_be_reached_gives_no_verdict(project: Path) -> None:
    with Advisories() as gone:
        pass
    code, said = audit(project, OSV_URL=gone.query)
    assert code == NOT_ASKED
    assert len(said.splitlines()) == 1
    assert "osv: requests.exceptions.ConnectionError" in said


def test_without_any_network_there_is_no_verdict(project: Path, tmp_path: Path) -> None:
    code, said = audit(project, UV_OFFLINE="1", UV_CACHE_DIR=str(tmp_path / "uv"))
    assert code == NOT_ASKED
    assert len(said.splitlines()) == 1
    assert "pip-audit could not be fetched" in said
