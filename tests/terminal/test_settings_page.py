"""`config --explain`: every setting in words, whatever its value."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from squadron.errors import SettingsError
from squadron.settings.schema import leaves
from squadron.terminal.settings_page import explanations


def explain(folder: Path, *arguments: str) -> "subprocess.CompletedProcess[str]":
    command = [sys.executable, "-m", "squadron", "config", "--explain", *arguments]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=60)


def test_every_setting_is_explained_once_in_the_order_of_the_models() -> None:
    assert [setting.key for setting in explanations()] == [key for key, _ in leaves()]


@pytest.mark.parametrize(
    ("key", "type_", "default"),
    [
        ("source.name", "one of `squad`, `files`, `sample`", '"squad"'),
        ("source.limit", "integer above 0; or null", "null"),
        ("source.columns.metadata", "list of text that matches `^[A-Za-z][A-Za-z0-9_]{0,62}(=.+)?$`", "[]"),
        ("gate.approval", "true or false", "false"),
        ("gate.max_drop", "number, 0 to 1", "0.05"),
        ("store.metric", "one of `cosine`, `dot`, `l2`", '"cosine"'),
        ("store.pgvector.deadline_seconds", "number above 0, at most 3600", "120"),
        ("ingest.shard_passages", "integer, 1 or more", "16384"),
    ],
)
def test_type_and_default_are_those_that_the_setting_has(key: str, type_: str, default: str) -> None:
    (setting,) = explanations(key)

    assert (setting.type, setting.default) == (type_, default)


def test_a_section_brings_its_subsections() -> None:
    sections = {setting.key.rpartition(".")[0] for setting in explanations("source")}

    assert sections == {"source", "source.columns"}


def test_the_beginning_of_a_name_is_no_section() -> None:
    with pytest.raises(
        SettingsError, match=r"'sour' is not a setting, or a section of settings, did you mean 'source'"
    ):
        explanations("sour")


def test_the_command_prints_key_default_type_and_description(tmp_path: Path) -> None:
    done = explain(tmp_path, "retention")

    assert done.returncode == 0
    assert done.stdout.splitlines()[:2] == ["retention.generations = 2", "    integer, 2 or more"]
    assert done.stdout.splitlines()[2].startswith("    Generations kept")


def test_an_unknown_prefix_ends_with_exit_code_2_and_the_nearest_name(tmp_path: Path) -> None:
    done = explain(tmp_path, "stor.lancedb")

    assert (done.returncode, done.stdout) == (2, "")
    assert "did you mean 'store.lancedb'?" in done.stderr


def test_json_holds_the_same(tmp_path: Path) -> None:
    (setting,) = json.loads(explain(tmp_path, "source.limit", "--json").stdout)["settings"]

    assert setting == vars(explanations("source.limit")[0])


def test_a_broken_config_file_does_not_hinder_it(tmp_path: Path) -> None:
    (tmp_path / "config").mkdir()
    (tmp_path / "config" / "squad.toml").write_text("no toml")

    done = subprocess.run(
        [sys.executable, "-m", "squadron", "config", "--explain", "budget"],
        env={"SQUADRON_HOME": str(tmp_path)},
        capture_output=True,
        text=True,
        timeout=60,
    )

    assert (done.returncode, done.stderr) == (0, "")
