"""The pages in Markdown, and what is in them."""

import re
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
DOCS = ROOT / "docs"
PAGES = [
    *(ROOT / name for name in ("README.md", "CONTRIBUTING.md", "plugins/README.md", "tests/README.md")),
    ROOT / "pipelines" / "squadron" / "package_data" / "README.md",
    *sorted(DOCS.glob("*.md")),
]
GENERATED = ("settings.md", "command_line.md")

BLOCK = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
INLINE = re.compile(r"(?<!`)`([^`]+)`(?!`)")


def relative(page: Path) -> str:
    return page.relative_to(ROOT).as_posix()


def prose(page: Path) -> str:
    """The text without its blocks of code."""
    return BLOCK.sub("", page.read_text(encoding="utf-8"))


def inline_code(page: Path) -> list[str]:
    """What stands in backticks in the text, a line break as a space."""
    return INLINE.findall(prose(page).replace("\n", " "))
