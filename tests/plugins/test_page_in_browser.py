"""The page in a real headless Chromium: in Airflow's navigation and its DAG tab, wide and narrow, light and dark."""

import shutil
from collections.abc import Iterator

import pytest

from squadron.dataflow.vector_space import fingerprint, vector_space
from squadron.generations import live_pointer
from tests.plugins.chromium import Chromium, installed
from tests.plugins.conftest import BLANK, HOSTILE, Page
from tests.whole_runs import live

pytestmark = [
    pytest.mark.airflow,
    pytest.mark.browser,
    pytest.mark.xdist_group("airflow"),
    pytest.mark.skipif(not installed(), reason="there is no Chromium on PATH, and CHROMIUM names none"),
]

DRAWN = "document.querySelectorAll('#facts dd, #generations td, #runs td, #quarantine td').length > 20"


@pytest.fixture(scope="module")
def chromium(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Chromium]:
    with Chromium(installed() or "", tmp_path_factory.mktemp("chromium") / "profile") as running:
        yield running


def open_books(chromium: Chromium, page: Page, user: str = "viewer", width: int = 1280, theme: str = "light") -> None:
    chromium.show(width, theme)
    chromium.open(f"{page.server.address}/squadron/?collection=books", page.server.token(user))
    chromium.wait_for(f"document.title.startsWith('books') && {DRAWN} && document.querySelector('#graph > *')")


@pytest.mark.parametrize("theme", ["light", "dark"])
@pytest.mark.parametrize("width", [1280, 400])
def test_the_page_fits_and_has_the_theme_and_asks_nobody_else(
    chromium: Chromium, page: Page, width: int, theme: str
) -> None:
    open_books(chromium, page, width=width, theme=theme)

    assert chromium.value("document.documentElement.scrollWidth") <= width
    light, red = chromium.value(
        "(() => { const canvas = document.createElement('canvas').getContext('2d');"
        "canvas.fillStyle = getComputedStyle(document.documentElement).backgroundColor;"
        "canvas.fillRect(0, 0, 1, 1); const red = canvas.getImageData(0, 0, 1, 1).data[0];"
        "return [red > 127, red] })()"
    )
    assert light is (theme == "light"), red
    assert chromium.requested
    assert all(address.startswith((page.server.address, "blob:")) for address in chromium.requested)
    without_graph = () if shutil.which("dot") else ("/graph.svg",)  # it is told on the page, and on the console
    assert [each for each in chromium.complaints if not each.endswith(without_graph)] == []


def test_it_shows_what_is_live_its_fingerprint_and_its_quality(chromium: Chromium, page: Page) -> None:
    open_books(chromium, page)

    text = chromium.value("document.body.innerText")
    digest = fingerprint(vector_space(page.settings))
    assert page.second in chromium.value("document.querySelector('#facts').innerText")
    assert digest[:8] in page.first
    assert page.second.removeprefix("books_") in chromium.value("document.querySelector('.digest').innerText")
    assert "template title_text_v1" in text  # in which the other generation differs
    assert chromium.value("document.querySelectorAll('#recall svg circle.dot').length") == 1
    assert "Nothing was spent in one night." in text
    assert BLANK["title"] in chromium.value("document.querySelector('#quarantine').innerText")


def test_hostile_text_stays_text(chromium: Chromium, page: Page) -> None:
    open_books(chromium, page)

    chromium.value(f"(document.querySelector('#question').value = {HOSTILE['question']!r}, 0)")
    chromium.value("document.querySelector('#question').focus()")
    chromium.press("Enter")
    chromium.wait_for("document.querySelectorAll('.matches li').length")

    found = chromium.value("document.querySelector('#matches').textContent")
    assert HOSTILE["title"] in found
    assert HOSTILE["context"] in found
    assert chromium.value("document.querySelectorAll('#matches img, #matches script, #quarantine td b b').length") == 0
    assert chromium.value("document.title") == "books · Vectors"


def test_a_viewer_has_no_buttons_that_move(chromium: Chromium, page: Page) -> None:
    open_books(chromium, page)

    assert chromium.value("document.querySelectorAll('#generations button, #moves button').length") == 0
    assert "you must be allowed to trigger vector_ingest" in chromium.value(
        "document.querySelector('#moves').innerText"
    )


def test_rollback_by_the_keyboard_in_airflows_navigation_asks_first(chromium: Chromium, page: Page) -> None:
    chromium.show(1280, "light")
    address = f"{page.server.address}/plugin/squadron/squadron/?collection=books"
    chromium.open(address, page.server.token("operator"))
    inside = "document.querySelector('iframe').contentDocument"
    chromium.wait_for(f"{inside}.querySelector('#moves button')")
    assert chromium.value("document.body.innerText.includes('Vectors')")
    try:
        chromium.value(f"{inside}.querySelector('#moves button').focus()")
        chromium.press("Enter")
        chromium.wait_for(f"{inside}.querySelector('dialog').open")
        assert live(page.settings) == page.second
        assert chromium.value(f"{inside}.activeElement.value") == "cancel"
        chromium.press("Tab")
        chromium.press("Enter")
        said = chromium.wait_for(f"{inside}.querySelector('#notice:not([hidden])').innerText")

        assert said == f"{page.first} is live in books; {page.second} was before."
        chromium.wait_for(f"{inside}.querySelector('#facts').innerText.includes('{page.first}')")
        assert live(page.settings) == page.first
    finally:
        live_pointer.promote_generation(page.settings, page.second)


def test_the_tab_of_the_dag_shows_its_collections(chromium: Chromium, page: Page) -> None:
    chromium.show(1280, "dark")
    chromium.open(f"{page.server.address}/dags/vector_ingest/plugin/squadron_dag", page.server.token("viewer"))

    names = chromium.wait_for(
        "document.querySelector('iframe').contentDocument.querySelector('#collections:not([hidden])').innerText"
    )

    assert names.split()[0] == "squad"
    assert "books" in names.split()
