"""Writes the pages of docs/ that come from the code: `python docs`, or `make docs`."""

from pathlib import Path

import typer

from squadron.__main__ import app
from squadron.terminal.command_page import command_page
from squadron.terminal.settings_page import settings_page

FOLDER = Path(__file__).resolve().parent


def main() -> None:
    """Write settings.md and command_line.md."""
    for name, text in pages().items():
        (FOLDER / name).write_text(text, encoding="utf-8")


def pages() -> dict[str, str]:
    """File -> its text."""
    return {"settings.md": settings_page(), "command_line.md": command_page(typer.main.get_command(app))}


if __name__ == "__main__":
    main()
