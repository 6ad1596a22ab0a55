"""An Airflow whose folders are synced, but which lacks the package: it says so, with what installs it, and goes on."""

import json
import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest

from tests.dags.local_airflow import ROOT, airflow_environment

DAG_FILES = sorted(path for path in (ROOT / "dags").glob("*.py") if path.name != "__main__.py")
RUN_WITHOUT = "import runpy, sys; sys.modules[sys.argv[1]] = None; runpy.run_path(sys.argv[2])"
LOAD_PLUGINS = """
import json
from airflow import plugins_manager
plugins, errors = plugins_manager._get_plugins()
apps = [app["name"] for app in plugins_manager.get_fastapi_plugins()[0]]
print(json.dumps({"plugins": sorted(plugin.name for plugin in plugins), "errors": errors, "apps": apps}))
"""


@pytest.mark.parametrize("package", ["squadron", "squadron_tasks"])
@pytest.mark.parametrize("file", DAG_FILES, ids=lambda path: path.stem)
def test_a_dag_file_without_a_package_says_what_installs_it(file: Path, package: str, tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", RUN_WITHOUT, package, str(file)],
        capture_output=True, text=True, cwd=tmp_path, timeout=60, env={"PYTHONPATH": str(ROOT / "plugins")},
    )  # fmt: skip
    last = done.stderr.splitlines()[-1]
    assert last.startswith(f"ModuleNotFoundError: {package} is not installed where Airflow runs"), done.stderr
    assert "pip install --requirement requirements.txt ." in last
    assert "plugins/" in last


def test_there_are_dag_files_to_try() -> None:
    assert {"vector_ingest", "vector_verify", "vector_rollback"} <= {path.stem for path in DAG_FILES}


def packages_but_squadron(folder: Path) -> Path:
    """A folder with links to all that is installed here but this package."""
    folder.mkdir()
    for path in Path(sysconfig.get_path("purelib")).iterdir():
        if "squadron" not in path.name:
            (folder / path.name).symlink_to(path)
    return folder


@pytest.mark.xdist_group("airflow")
def test_plugins_load_and_the_web_server_starts_without_the_package(tmp_path: Path) -> None:
    """An error in one plugin's application would keep all of Airflow's web server from starting."""
    environment = airflow_environment(tmp_path) | {"PYTHONPATH": str(packages_but_squadron(tmp_path / "packages"))}
    done = subprocess.run(
        [sys.executable, "-S", "-W", "ignore", "-c", LOAD_PLUGINS],
        capture_output=True, text=True, cwd=tmp_path, timeout=120, env=environment,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    loaded = json.loads(done.stdout.splitlines()[-1])
    assert {"embedding_pools", "squadron_page"} <= set(loaded["plugins"])
    assert loaded["errors"] == {}
    assert "Squadron" not in loaded["apps"]
    assert "the package squadron is not installed here" in done.stdout + done.stderr
