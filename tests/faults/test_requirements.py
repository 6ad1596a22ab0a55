"""Requirements: each is pinned to one version, none is installed as another, and they agree with each other.

What is known to be vulnerable is looked up by `make audit`, which needs the network.
"""

import re
import subprocess
import sys
import tomllib
from contextlib import suppress
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).resolve().parents[2]


def pinned() -> dict[str, str]:
    """Name -> version of every requirement that applies to this Python."""
    lines = [line.split("#")[0].strip() for line in (ROOT / "requirements.txt").read_text().splitlines()]
    found = {}
    for line in filter(None, lines):
        assert re.fullmatch(r"[A-Za-z0-9._-]+(\[[^\]]+\])?==[^\s*,]+( ;.*)?", line), (
            f"not pinned to one version: {line}"
        )
        requirement = Requirement(line)
        if not requirement.marker or requirement.marker.evaluate():
            found[canonicalize_name(requirement.name)] = next(iter(requirement.specifier)).version
    return found


def test_every_requirement_is_pinned_to_one_version_and_none_is_installed_as_another() -> None:
    others = {}
    for name, wanted in pinned().items():
        with suppress(PackageNotFoundError):  # what torch wants for a GPU only
            installed = version(name).partition("+")[0]  # `+cpu` says where torch runs
            if installed != wanted:
                others[name] = (installed, wanted)

    assert len(pinned()) > 100
    assert others == {}


def test_all_that_the_project_depends_on_is_locked() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    listed = [
        *project["dependencies"],
        *(name for extra in project["optional-dependencies"].values() for name in extra),
    ]
    named = {canonicalize_name(Requirement(each).name) for each in listed}

    assert len(named) > 30
    assert named - pinned().keys() == set(), "not locked: `make lock`"


def test_what_is_installed_agrees_with_itself() -> None:
    command = [sys.executable, "-m", "uv", "pip", "check", "--python", sys.executable]

    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)

    assert done.returncode == 0, done.stdout + done.stderr
