"""Home: the folder whose `config/` is read, and below which index, cache and staging lie by default."""

import os
from pathlib import Path

VARIABLE = "SQUADRON_HOME"
PACKAGE_DATA = Path(__file__).resolve().parents[1] / "package_data"
"""What comes with the package: `models.toml`, `sample.json`."""


def home() -> Path:
    """What relative paths of `config/` start from.

    The variable SQUADRON_HOME; else the checkout that this module is in; else the working directory, if it has a
    `config/` with TOML files, or a `.squadron/`; else the platform's folder for a user's data.
    """
    if named := os.environ.get(VARIABLE):
        return Path(named).expanduser().absolute()
    here = Path.cwd()
    for folder, reason in ((checkout(), True), (here, _is_a_home(here))):
        if folder and reason:
            return folder
    import platformdirs  # nobody else needs it

    return Path(platformdirs.user_data_dir("squadron", appauthor=False))


def checkout() -> Path | None:
    """The checkout that this module is in; None where the package was installed out of it."""
    root = Path(__file__).resolve().parents[3]
    return root if (root / "pyproject.toml").is_file() and (root / "dags").is_dir() else None


def _is_a_home(folder: Path) -> bool:
    return (folder / ".squadron").is_dir() or any((folder / "config").glob("*.toml"))
