"""Home: the folder whose `config/` is read, and below which index, cache and staging lie by default."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path

VARIABLE = "SQUADRON_HOME"
PACKAGE_DATA = Path(__file__).resolve().parents[1] / "package_data"
"""What comes with the package: `models.toml`, `sample.json`."""
_given: ContextVar[Path | None] = ContextVar("home", default=None)


def home() -> Path:
    """What relative paths of `config/` start from.

    The variable SQUADRON_HOME; else the checkout that this module is in; else the working directory, if it has a
    `config/` with TOML files, or a `.squadron/`; else the platform's folder for a user's data.
    """
    return home_and_reason()[0]


def home_and_reason() -> tuple[Path, str]:
    """The home, and what it is, for messages: `the working directory`."""
    if given := _given.get():
        return given, "home"
    if named := os.environ.get(VARIABLE):
        return Path(named).expanduser().absolute(), VARIABLE
    if root := checkout():
        return root, "this checkout"
    here = Path.cwd()
    if _is_a_home(here):
        return here, "the working directory"
    import platformdirs  # nobody else needs it

    return Path(platformdirs.user_data_dir("squadron", appauthor=False)), "the user's data folder"


@contextmanager
def home_at(folder: Path | None) -> Iterator[None]:
    """Within it, and in this thread, the folder is the home, whatever the environment says; None changes nothing."""
    token = _given.set(folder.expanduser().absolute() if folder else _given.get())
    try:
        yield
    finally:
        _given.reset(token)


def checkout() -> Path | None:
    """The checkout that this module is in; None where the package was installed out of it."""
    root = Path(__file__).resolve().parents[3]
    return root if (root / "pyproject.toml").is_file() and (root / "dags").is_dir() else None


def _is_a_home(folder: Path) -> bool:
    return (folder / ".squadron").is_dir() or any((folder / "config").glob("*.toml"))
