"""The pages in Markdown: links lead somewhere, commands and settings exist, examples are valid, nothing is stale."""

import ast
import importlib
import re
import runpy
import shlex
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer

from squadron.__main__ import app
from squadron.runs.whole_run import ingest
from squadron.settings.assignments import assignments
from squadron.settings.known_models import Model
from squadron.settings.layers import Layer, resolve
from squadron.settings.registry import REGISTRIES, load
from squadron.settings.schema import Settings, leaves
from squadron.terminal.settings_page import explanations

ROOT = Path(__file__).resolve().parents[2]
DOCS = ROOT / "docs"
PAGES = [
    *(ROOT / name for name in ("README.md", "CONTRIBUTING.md", "plugins/README.md", "tests/README.md")),
    ROOT / "pipelines" / "squadron" / "package_data" / "README.md",
    *sorted(DOCS.glob("*.md")),
]
FOLDERS = ("pipelines", "plugins", "dags", "tests", "benchmarks", "docs")
MODULES = [module.relative_to(ROOT).as_posix() for folder in FOLDERS for module in (ROOT / folder).rglob("*.py")]
GENERATED = ("settings.md", "command_line.md")
README_LINES = 150

KEYS = [key for key, _ in leaves()]
SECTIONS = [*Settings.model_fields]
COMMANDS: Any = typer.main.get_command(app)
MAKEFILE = (ROOT / "Makefile").read_text()
TARGETS = set(re.findall(r"^([a-z][a-z-]*):", MAKEFILE, re.MULTILINE))

BLOCK = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
INLINE = re.compile(r"(?<!`)`([^`]+)`(?!`)")
LINK = re.compile(r"\]\(([^)\s]+)\)")
HEADING = re.compile(r"^#+ (.+)$", re.MULTILINE)


def relative(page: Path) -> str:
    return page.relative_to(ROOT).as_posix()


def prose(page: Path) -> str:
    """The text without its blocks of code."""
    return BLOCK.sub("", page.read_text(encoding="utf-8"))


def anchors(page: Path) -> set[str]:
    """What GitHub calls the headings of a page."""
    titles = (re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", title) for title in HEADING.findall(prose(page)))
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}


def blocks(language: str) -> Iterator[Any]:
    for page in PAGES:
        for number, (name, text) in enumerate(BLOCK.findall(page.read_text(encoding="utf-8")), 1):
            if name == language:
                yield pytest.param(text, id=f"{relative(page)}-{number}")


def commands(program: str) -> Iterator[Any]:
    """Each command line shown that begins with the program, in a block or in the text, as its arguments."""
    for page in PAGES:
        if page.name in GENERATED and program == "squadron":
            lines = INLINE.findall(prose(page).replace("\n", " "))  # its blocks are usages, made by typer
        else:
            text = page.read_text(encoding="utf-8")
            shown = (line for name, block in BLOCK.findall(text) if not name for line in block.splitlines())
            lines = [*shown, *INLINE.findall(prose(page).replace("\n", " "))]
        for line in lines:
            command = line.removeprefix("$ ")
            if command.startswith(program + " "):
                yield pytest.param(shlex.split(command, comments=True)[1:], id=f"{relative(page)}: {command}")


def test_the_readme_is_short() -> None:
    assert len((ROOT / "README.md").read_text().splitlines()) <= README_LINES


@pytest.mark.parametrize("page", PAGES, ids=relative)
def test_every_link_and_anchor_leads_somewhere(page: Path) -> None:
    dead = []
    for link in LINK.findall(INLINE.sub("", prose(page))):
        if re.match(r"https?://|mailto:", link):
            continue
        path, _, anchor = link.partition("#")
        target = (page.parent / path).resolve() if path else page
        if not target.exists() or (anchor and anchor not in anchors(target)):
            dead.append(link)
    assert dead == []


@pytest.mark.parametrize("page", PAGES, ids=relative)
def test_every_module_that_is_named_exists(page: Path) -> None:
    named = re.findall(r"`([\w/]+\.py)`", prose(page))

    assert [name for name in named if not any(f"/{module}".endswith(f"/{name}") for module in MODULES)] == []


@pytest.mark.parametrize("page", sorted(DOCS.glob("*.md")), ids=relative)
def test_every_page_can_be_reached_from_the_readme(page: Path) -> None:
    assert f"](docs/{page.name})" in (ROOT / "README.md").read_text()


@pytest.mark.parametrize("image", sorted((DOCS / "images").iterdir()), ids=relative)
def test_every_picture_is_shown(image: Path) -> None:
    assert any(f"images/{image.name})" in page.read_text() for page in PAGES)


@pytest.mark.parametrize("name", GENERATED)
def test_a_page_from_the_code_is_not_stale(name: str) -> None:
    made = runpy.run_path(str(DOCS / "__main__.py"))["pages"]()

    assert made.keys() == set(GENERATED)
    assert (DOCS / name).read_text(encoding="utf-8") == made[name], "stale: run `make docs`"


def test_the_page_of_settings_says_what_config_explain_prints() -> None:
    page = (DOCS / "settings.md").read_text(encoding="utf-8")

    assert [setting.key for setting in explanations() if setting.row() not in page] == []


@pytest.mark.parametrize("arguments", [*commands("squadron")])
def test_a_command_of_squadron_exists_with_its_options(arguments: list[str]) -> None:
    name, command, rest = COMMANDS.resolve_command(COMMANDS.make_context("squadron", arguments[:]), arguments)
    if not rest:  # the command is named, not shown in use
        return
    given = command.make_context(name, rest).params

    for key in assignments(given["assignments"] or []):
        assert key in KEYS or key == "KEY"
    if given.get("explain"):
        assert explanations(given["prefix"])


@pytest.mark.parametrize("arguments", [*commands("make")])
def test_a_target_of_make_exists_with_its_variables(arguments: list[str]) -> None:
    variables = [argument.partition("=")[0] for argument in arguments if "=" in argument]
    targets = [argument for argument in arguments if "=" not in argument]

    assert set(targets) <= TARGETS
    assert [name for name in variables if not re.search(rf"\b{name}\b", MAKEFILE)] == []


@pytest.mark.parametrize("page", PAGES, ids=relative)
def test_every_setting_that_is_named_exists(page: Path) -> None:
    named = [word for text in INLINE.findall(prose(page).replace("\n", " ")) for word in _setting_names(text)]

    assert [name for name in named if not _is_setting(name)] == []


@pytest.mark.parametrize("text", [*blocks("toml")])
def test_an_example_in_toml_is_valid(text: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SQUADRON_HOME", str(tmp_path))
    values = tomllib.loads(text)
    if text.startswith("# config/models.toml"):
        assert [Model.model_validate(model) for models in values.values() for model in models.values()]
    else:
        assert resolve([Layer("the example", values, tmp_path)]).origins


@pytest.mark.parametrize("text", [*blocks("python")])
def test_an_example_in_python_compiles_and_imports_what_there_is(text: str) -> None:
    tree = ast.parse(text)
    for node in tree.body:
        if isinstance(node, ast.ImportFrom):
            module = importlib.import_module(node.module or "")
            assert [name.name for name in node.names if not hasattr(module, name.name)] == []
        elif isinstance(node, ast.Import):
            assert [importlib.import_module(name.name) for name in node.names]


def test_the_readme_s_own_csv_is_ingested_and_asked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    text = {name: block for name, block in BLOCK.findall((ROOT / "README.md").read_text(encoding="utf-8")) if name}
    (tmp_path / "config").mkdir()
    (tmp_path / "config" / "tickets.toml").write_text(text["toml"] + 'embedding.service = "hashing"\n')
    (tmp_path / "tickets.csv").write_text(
        "id,subject,body,status\nT-1,Login,I am locked out,open\nT-2,Invoice,Wrong VAT,open\nT-3,Login,locked,closed\n"
    )
    monkeypatch.setenv("SQUADRON_HOME", str(tmp_path))

    ingest(resolve([Layer("the test", {"collection": "tickets"}, tmp_path)]).settings)
    exec(compile(text["python"], "README.md", "exec"), {})

    first, second = capsys.readouterr().out.splitlines()
    assert first.startswith("1 T-1 Login open ")
    assert second.startswith("2 T-2 Invoice open ")


@pytest.mark.parametrize(("title", "registry"), [("a store", "stores"), ("an embedding service", "embeddings")])
def test_every_backend_has_the_nodes_that_are_listed(title: str, registry: str) -> None:
    page = (DOCS / "backends.md").read_text(encoding="utf-8")
    table = page.partition(f"### What {title} offers\n")[2].partition("\n#")[0]
    cells = [line.split("|")[1] for line in table.splitlines() if line.startswith("| `")]
    nodes = [node for cell in cells for node in re.findall(r"`(\w+)`", cell)]

    assert nodes
    for name in REGISTRIES[registry]:
        assert [node for node in nodes if not hasattr(load(registry, name), node)] == [], name


def test_every_metric_that_is_sent_is_listed() -> None:
    tree = ast.parse((ROOT / "plugins" / "squadron_tasks" / "metrics.py").read_text())
    tables = {
        node.targets[0].id: ast.literal_eval(node.value)
        for node in tree.body
        if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name)
    }
    sent = {(stage, name) for kind in ("COUNTERS", "GAUGES") for stage in tables[kind] for name in tables[kind][stage]}
    page = (DOCS / "airflow.md").read_text(encoding="utf-8")
    rows = [row.split("|")[1:3] for row in page.partition("| stage | metric")[2].splitlines() if row.startswith("| `")]
    listed = {(stage.strip(" `"), name) for stage, names in rows for name in re.findall(r"`(\w+)`", names)}

    assert sent <= listed
    assert {stage for stage, _ in listed - sent} <= {"ingest", "evaluate", "<stage>"}


def _setting_names(text: str) -> list[str]:
    """The words of a piece of code that look like keys of settings: `store.<name>.max_retries`, `source.columns.*`."""
    if not re.fullmatch(r"[\w.<>*]+( ?= ?\S+)?", text):
        return []
    key = re.split(r" ?= ?", text)[0]
    return [key] if key.partition(".")[0] in SECTIONS and "." in key and not key.endswith((".py", ".md")) else []


def _is_setting(name: str) -> bool:
    """Whether there is such a key, or such a section; `<name>` and `*` stand for any."""
    pattern = re.compile(re.sub(r"<\w+>|\\\*", r"\\w+", re.escape(name).replace(r"\<", "<").replace(r"\>", ">")))
    prefixes = {key.rpartition(".")[0] for key in KEYS}
    return any(pattern.fullmatch(key) for key in [*KEYS, *prefixes])
