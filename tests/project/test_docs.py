"""The pages in Markdown: links lead somewhere, what they name exists, and nothing is stale."""

import ast
import html
import re
import runpy
from pathlib import Path

import pytest

from squadron.dataflow.driver import build_driver
from squadron.settings.registry import REGISTRIES, load
from squadron.settings.schema import Settings, leaves
from squadron.terminal.settings_page import explanations
from tests.project.pages import DOCS, GENERATED, INLINE, PAGES, ROOT, inline_code, prose, relative

FOLDERS = ("pipelines", "plugins", "dags", "tests", "benchmarks", "docs")
MODULES = [module.relative_to(ROOT).as_posix() for folder in FOLDERS for module in (ROOT / folder).rglob("*.py")]
README_LINES = 150
KEYS = [key for key, _ in leaves()]
SECTIONS = [*Settings.model_fields]

LINK = re.compile(r"\]\(([^)\s]+)\)")
HEADING = re.compile(r"^#+ (.+)$", re.MULTILINE)


def anchors(page: Path) -> set[str]:
    """What GitHub calls the headings of a page."""
    titles = (re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", title) for title in HEADING.findall(prose(page)))
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}


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


@pytest.mark.parametrize("page", PAGES, ids=relative)
def test_every_setting_that_is_named_exists(page: Path) -> None:
    named = [word for text in inline_code(page) for word in _setting_names(text)]

    assert [name for name in named if not _is_setting(name)] == []


@pytest.mark.parametrize(("title", "registry"), [("a store", "stores"), ("an embedding service", "embeddings")])
def test_every_backend_has_the_nodes_that_are_listed(title: str, registry: str) -> None:
    page = (DOCS / "backends.md").read_text(encoding="utf-8")
    table = page.partition(f"### What {title} offers\n")[2].partition("\n#")[0]
    cells = [line.split("|")[1] for line in table.splitlines() if line.startswith("| `")]
    nodes = [node for cell in cells for node in re.findall(r"`(\w+)`", cell)]

    assert nodes
    for name in REGISTRIES[registry]:
        assert [node for node in nodes if not hasattr(load(registry, name), node)] == [], name


def test_the_drawing_of_the_graph_is_not_stale() -> None:
    source = build_driver(Settings()).display_all_functions(render_kwargs={"view": False}).source
    drawn = html.unescape((DOCS / "images" / "dataflow.svg").read_text(encoding="utf-8"))
    edges = set(re.findall(r"^\s*(\w+ -> \w+)", source, re.MULTILINE))

    assert edges
    assert {edge.replace("->", " -> ") for edge in re.findall(r"<title>(\w+->\w+)</title>", drawn)} == edges, (
        "stale: run `squadron graph docs/images/dataflow.svg`"
    )


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
