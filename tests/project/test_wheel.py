"""The wheel: what it carries, and that it works beside a project with a folder `pipelines` of its own."""

import json
import os
import shutil
import subprocess
import sys
import sysconfig
from collections.abc import Callable
from pathlib import Path
from zipfile import ZipFile

import pytest

ROOT = Path(__file__).resolve().parents[2]
PACKAGE = ROOT / "pipelines" / "squadron"
Run = Callable[..., "subprocess.CompletedProcess[str]"]
ASK = """
import json, sys
import pipelines, squadron
from squadron import Index
(match,) = Index("squad").search("Which trench of the ocean is the deepest?", top_k=1)
print(json.dumps([pipelines.NAME, squadron.__file__, match.title, sys.path]))
"""
LOCATIONS = """
import json
from squadron.settings.layers import resolve
settings = resolve().settings
print(json.dumps([settings.store.lancedb.uri, settings.cache.path, settings.ingest.staging]))
"""

pytestmark = pytest.mark.xdist_group("wheel")


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel, built of a copy: what earlier builds have left in the checkout is not in it."""
    copy = tmp_path_factory.mktemp("copy")
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        if (ROOT / name).exists():
            shutil.copy(ROOT / name, copy)
    shutil.copytree(PACKAGE, copy / "pipelines" / "squadron", ignore=shutil.ignore_patterns("__pycache__"))
    build = [sys.executable, "-m", "uv", "build", "--wheel", "--no-build-isolation", "--python", sys.executable]
    subprocess.run([*build, "--out-dir", copy / "dist", copy], check=True, capture_output=True, timeout=120)
    (built,) = (copy / "dist").glob("*.whl")
    return built


def test_the_wheel_carries_the_package_its_data_and_nothing_else(wheel: Path) -> None:
    with ZipFile(wheel) as archive:
        names = [name for name in archive.namelist() if ".dist-info/" not in name]
        (entries,) = [name for name in archive.namelist() if name.endswith("entry_points.txt")]
        commands = archive.read(entries).decode()

    wanted = [path.relative_to(PACKAGE.parent) for path in PACKAGE.rglob("*") if path.suffix in (".py", ".toml")]
    assert {path.as_posix() for path in wanted} <= set(names)
    assert {"squadron/package_data/models.toml", "squadron/package_data/sample.json", "squadron/py.typed"} <= set(names)
    assert {name.partition("/")[0] for name in names} == {"squadron"}
    assert "squadron = squadron.__main__:main" in commands


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Somebody's project, outside of this checkout."""
    folder = tmp_path_factory.mktemp("project")
    (folder / "pipelines").mkdir()
    (folder / "pipelines" / "__init__.py").write_text("NAME = 'theirs'\n")
    return folder


@pytest.fixture(scope="module")
def run(wheel: Path, project: Path, tmp_path_factory: pytest.TempPathFactory) -> Run:
    """Runs a command of a virtual environment with the wheel, in the project's folder.

    The packages that Squadron needs are those of this environment: a `.pth` file adds the folder, and does not follow
    the link to the checkout that lies in it.
    """
    environment, data = tmp_path_factory.mktemp("environment"), tmp_path_factory.mktemp("data")
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", environment], check=True, timeout=120)
    python = environment / "bin" / "python"
    install = [sys.executable, "-m", "uv", "pip", "install", "--no-deps", "--python", python, wheel]
    subprocess.run(install, check=True, capture_output=True, timeout=120)
    (packages,) = environment.glob("lib/python3*/site-packages")
    (packages / "needed.pth").write_text(sysconfig.get_path("purelib"))
    kept = {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "SQUADRON_HOME")}

    def run(command: str, *arguments: str, cwd: Path = project) -> "subprocess.CompletedProcess[str]":
        return subprocess.run(
            [environment / "bin" / command, *arguments],
            cwd=cwd, env=kept | {"XDG_DATA_HOME": str(data), "HOME": str(data)},
            capture_output=True, text=True, timeout=300,
        )  # fmt: skip

    return run


@pytest.fixture(scope="module")
def ingested(run: Run) -> "subprocess.CompletedProcess[str]":
    done = run("squadron", "ingest", "--set", "source.name=sample")
    assert done.returncode == 0, done.stderr
    return done


@pytest.mark.slow
def test_installed_it_ingests_and_says_where_it_writes(
    ingested: "subprocess.CompletedProcess[str]", project: Path
) -> None:
    first = ingested.stderr.splitlines()[0]
    assert first.startswith("index: lancedb at ")
    assert ", cache: " in first and ", staging: " in first
    assert "site-packages" not in first
    for location in (part.rpartition(" ")[2] for part in first.split(", ")):
        assert Path(location).is_dir()
    assert "promoted" in ingested.stdout
    assert [path.name for path in project.iterdir()] == ["pipelines"]


@pytest.mark.slow
@pytest.mark.usefixtures("ingested")
@pytest.mark.parametrize("command", [("squadron",), ("python", "-m", "squadron")])
def test_installed_it_is_asked_on_the_command_line(run: Run, command: tuple[str, ...]) -> None:
    done = run(*command, "search", "Which trench of the ocean is the deepest?", "--top-k", "1", "--json")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["matches"][0]["title"] == "Challenger Deep"


@pytest.mark.slow
@pytest.mark.usefixtures("ingested")
def test_installed_it_is_asked_from_python_beside_another_pipelines(run: Run) -> None:
    done = run("python", "-c", ASK)
    assert done.returncode == 0, done.stderr
    theirs, file, title, path = json.loads(done.stdout)
    assert (theirs, title) == ("theirs", "Challenger Deep")
    assert not Path(file).is_relative_to(ROOT)
    assert [entry for entry in path if Path(entry).is_relative_to(ROOT)] in ([], [sysconfig.get_path("purelib")])


@pytest.mark.slow
@pytest.mark.parametrize("sign", ["config/tickets.toml", ".squadron/lancedb/"])
def test_installed_its_places_are_below_a_working_directory_that_has_its_files(
    run: Run, tmp_path: Path, sign: str
) -> None:
    def locations() -> list[str]:
        done = run("python", "-c", LOCATIONS, cwd=tmp_path)
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)

    elsewhere = locations()
    path = tmp_path / sign
    path.parent.mkdir(parents=True)
    path.mkdir() if sign.endswith("/") else path.touch()

    assert not any(location.startswith(str(tmp_path)) for location in elsewhere)
    assert locations() == [str(tmp_path / ".squadron" / name) for name in ("lancedb", "cache", "staging")]
