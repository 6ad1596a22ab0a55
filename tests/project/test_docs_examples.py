"""What the pages show works: commands exist with their options, examples in TOML and Python are run."""

import ast
import importlib
import re
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
from squadron.settings.schema import leaves
from squadron.terminal.settings_page import explanations
from tests.project.pages import BLOCK, GENERATED, PAGES, ROOT, inline_code, relative

KEYS = [key for key, _ in leaves()]
COMMANDS: Any = typer.main.get_command(app)
MAKEFILE = (ROOT / "Makefile").read_text()
TARGETS = set(re.findall(r"^([a-z][a-z-]*):", MAKEFILE, re.MULTILINE))


def blocks(language: str) -> Iterator[Any]:
    for page in PAGES:
        for number, (name, text) in enumerate(BLOCK.findall(page.read_text(encoding="utf-8")), 1):
            if name == language:
                yield pytest.param(text, id=f"{relative(page)}-{number}")


def commands(program: str) -> Iterator[Any]:
    """Each command line shown that begins with the program, in a block or in the text, as its arguments."""
    for page in PAGES:
        if page.name in GENERATED and program == "squadron":
            lines = inline_code(page)  # its blocks are usages, made by typer
        else:
            text = page.read_text(encoding="utf-8")
            shown = (line for name, block in BLOCK.findall(text) if not name for line in block.splitlines())
            lines = [*shown, *inline_code(page)]
        for line in lines:
            command = line.removeprefix("$ ")
            if command.startswith(program + " "):
                yield pytest.param(shlex.split(command, comments=True)[1:], id=f"{relative(page)}: {command}")


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
