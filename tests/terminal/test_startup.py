"""Start-up: what each command imports, and what waits until it is used."""

import json
import os
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from squadron.dataflow.driver import Graph
from squadron.errors import SettingsError
from squadron.settings.schema import Settings
from squadron.stores.lancedb.runtime import PostponedPackage, postpone

# Packages, with what they bring themselves, that a command may import. What is not here has to be found out about.
COMMAND = {"annotated_doc", "squadron", "rich", "shellingham", "typer"}
SETTINGS = {"annotated_types", "pydantic", "pydantic_core", "typing_extensions", "typing_inspection"}
HAMILTON = {"cloudpickle", "dateutil", "hamilton", "mypy_extensions", "pandas", "pytz", "typing_inspect"}
ARROW = {"cython_runtime", "fsspec", "numpy", "pyarrow"}
LANCEDB = {
    "deprecation",
    "lance_namespace",
    "lance_namespace_urllib3_client",
    "lancedb",
    "overrides",
    "packaging",
    "tqdm",
}
CUTTING = {"semantic_text_splitter", "tokenizers"}
RUN = COMMAND | SETTINGS | HAMILTON | ARROW | LANCEDB | CUTTING
HELP = {"attr", "linkify_it", "markdown_it", "mdurl", "pygments"}  # rich's, for its boxes

IMPORTS = """
import json, runpy, sys
try:
    runpy.run_module("squadron", run_name="__main__")
except SystemExit:
    pass
print(json.dumps(sorted(sys.modules)), file=sys.stderr)
"""


def imported(folder: Path, command: str, *arguments: str) -> set[str]:
    """The modules that a command has imported when it ends, with everything it keeps below the folder."""
    pairs = {
        "collection": "demo",
        "source.name": "sample",
        "embedding.service": "hashing",
        "store.lancedb.uri": str(folder / "lancedb"),
        "ingest.staging": str(folder / "staging"),
        "cache.path": str(folder / "cache"),
    }
    settings = [] if command == "--help" else [f"--set={key}={value}" for key, value in pairs.items()]
    done = subprocess.run(
        [sys.executable, "-c", IMPORTS, command, *arguments, *settings],
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=240,
    )
    assert done.stdout, done.stderr
    return set(json.loads(done.stderr.splitlines()[-1]))


def packages(modules: set[str]) -> set[str]:
    """Those of the modules that are not Python's own; names with an underscore before them are of installers."""
    roots = {module.partition(".")[0] for module in modules}
    return {root for root in roots - sys.stdlib_module_names if not root.startswith("_")}


@pytest.fixture(scope="module")
def ingested(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder that the sample was ingested into."""
    folder = tmp_path_factory.mktemp("ingested")
    imported(folder, "ingest")
    return folder


@pytest.mark.parametrize(
    ("command", "arguments", "needed"),
    [
        ("--help", (), COMMAND | HELP),
        ("config", (), COMMAND | SETTINGS),
        ("ingest", (), RUN | {"filelock", "safetensors"}),
        ("search", ("How deep is the sea?",), RUN | {"safetensors"}),
        ("generations", (), RUN),
    ],
)
def test_a_command_imports_what_it_needs(
    ingested: Path, command: str, arguments: tuple[str, ...], needed: set[str]
) -> None:
    modules = imported(ingested, command, *arguments)

    assert packages(modules) - needed == set()
    assert not {module for module in modules if module.startswith("lance_namespace_urllib3_client.api")}


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[str], str]]:
    """Makes a package whose `__init__` is as given, with a submodule `part`; returns its name."""
    made: list[str] = []

    def make(init: str) -> str:
        name = f"postponed_{tmp_path.name.replace('-', '_')}_{len(made)}"
        made.append(name)
        (tmp_path / name).mkdir()
        (tmp_path / name / "__init__.py").write_text(init)
        (tmp_path / name / "part.py").write_text("found = True\n")
        return name

    monkeypatch.syspath_prepend(tmp_path)
    yield make
    for module in [module for module in sys.modules if module.partition(".")[0] in made]:
        del sys.modules[module]


def loaded(name: str) -> bool:
    return not isinstance(sys.modules[name], PostponedPackage)


def test_a_postponed_package_gives_its_submodules_without_being_loaded(package: Callable[[str], str]) -> None:
    name = package("raise RuntimeError('it was loaded')")

    postpone(name)

    assert __import__(f"{name}.part", fromlist=["found"]).found
    assert not loaded(name)


def test_a_postponed_package_is_loaded_when_it_is_asked_for_something(package: Callable[[str], str]) -> None:
    name = package("from . import part\nfrom .part import found\nanswer = 42\n")
    postpone(name)
    module = sys.modules[name]

    assert (module.answer, module.found) == (42, True)
    assert loaded(name)
    assert sys.modules[name] is module
    with pytest.raises(AttributeError, match="nothing"):
        _ = module.nothing


def test_what_goes_wrong_in_a_postponed_package_is_raised_to_who_asks(package: Callable[[str], str]) -> None:
    name = package("import no_such_package_anywhere")
    postpone(name)

    for _ in range(2):
        with pytest.raises(ModuleNotFoundError, match="no_such_package_anywhere"):
            _ = sys.modules[name].answer


def test_a_postponed_package_is_loaded_once_however_many_threads_ask(package: Callable[[str], str]) -> None:
    name = package("import builtins\nbuiltins.times_loaded = getattr(builtins, 'times_loaded', 0) + 1\nanswer = 42\n")
    postpone(name)
    answers: list[int] = []
    threads = [threading.Thread(target=lambda: answers.append(sys.modules[name].answer)) for _ in range(8)]

    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    import builtins

    assert answers == [42] * 8
    assert vars(builtins).pop("times_loaded") == 1


def test_a_package_that_is_not_installed_or_was_imported_is_left_alone() -> None:
    postpone("no_such_package_anywhere")
    postpone("json")

    assert "no_such_package_anywhere" not in sys.modules
    assert not isinstance(sys.modules["json"], PostponedPackage)


def test_lancedb_and_what_it_shares_with_others_work_as_ever() -> None:
    code = """
import overrides
before = overrides.override
from squadron.stores.lancedb.runtime import lancedb
from pydantic import BaseModel, ValidationError

assert overrides.override is before
assert "defer_build" not in BaseModel.model_config
try:
    lancedb.db.ListTablesResponse(tables=3)
    raise SystemExit("3 is no list of tables")
except ValidationError:
    pass
import lance_namespace_urllib3_client as client
assert client.TableApi.__name__ == "TableApi"
assert client.models.ListTablesResponse is lancedb.db.ListTablesResponse
"""
    done = subprocess.run(
        [sys.executable, "-c", code], env=os.environ.copy(), capture_output=True, text=True, timeout=240
    )

    assert done.returncode == 0, done.stderr


def test_a_model_that_was_begun_is_the_one_that_is_kept(settings_with: Callable[..., Settings]) -> None:
    graph = Graph(settings_with())

    graph.begin_model()

    assert graph.kept("model") == "hashing on cpu"
    assert graph.kept("dimension") == 256


def test_a_model_that_cannot_be_loaded_is_refused_where_it_is_asked_for(
    settings_with: Callable[..., Settings], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    graph = Graph(settings_with(**{"embedding.service": "openai"}))

    graph.begin_model()

    with pytest.raises(SettingsError, match="OPENAI_API_KEY"):
        graph.kept("model")
