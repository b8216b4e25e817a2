"""The page in headless Chromium, where there is one."""

import pytest
from chromium import Visit
from report_example import HOSTILE, example_figures

from shortlist.evaluate.report.page import render

pytest.importorskip("matplotlib")

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def url(tmp_path_factory):
    path = tmp_path_factory.mktemp("page") / "report.html"
    path.write_text(render(example_figures()), encoding="utf-8")
    return path.as_uri()


def detail(visit):
    return visit.page.locator("#detail").inner_text()


@pytest.fixture
def visit(browser, url):
    visit = Visit(browser, url)
    yield visit
    visit.page.close()


def test_nothing_goes_wrong_and_nothing_is_fetched(visit, url):
    visit.page.locator("summary").first.click()
    assert visit.messages == []
    assert [request for request in visit.requests if not request.startswith("data:")] == [url]


def test_every_section_and_figure_is_seen(visit):
    for section in ("bytes", "recall", "speed", "strip", "layers"):
        assert visit.page.locator(f"#{section} h2").is_visible()
    figures = visit.page.locator("figure svg")
    assert figures.count() == 6
    boxes = [figures.nth(number).bounding_box() for number in range(6)]
    assert all(box["width"] > 300 and box["height"] > 120 for box in boxes)


def test_a_token_shows_its_figures_under_the_pointer(visit):
    assert "figures stand here" in detail(visit)
    visit.page.locator(".strip .token").nth(1).hover()
    assert "400 rows read (40.00 %)" in detail(visit)
    assert HOSTILE.replace(" ", "␣") in detail(visit)


def test_the_keyboard_walks_along_the_strip(visit):
    visit.page.locator(".strip .token").first.focus()
    assert "5 rows read" in detail(visit)
    visit.page.keyboard.press("ArrowRight")
    assert "400 rows read" in detail(visit)
    visit.page.keyboard.press("End")
    assert "1000 rows read" in detail(visit)
    visit.page.keyboard.press("ArrowRight")  # there is no further one
    assert "1000 rows read" in detail(visit)
    visit.page.keyboard.press("Home")
    assert "5 rows read" in detail(visit)


@pytest.mark.parametrize("width", [320, 360, 1200])
def test_the_page_never_scrolls_sideways(browser, url, width):
    visit = Visit(browser, url, viewport={"width": width, "height": 740})
    visit.page.evaluate("for (const details of document.querySelectorAll('details')) details.open = true")
    assert visit.page.evaluate("document.documentElement.scrollWidth") <= width
    visit.page.close()


def test_text_can_be_read_in_the_dark_and_on_paper(browser, url):
    def colours(page):
        style = "getComputedStyle(document.body)"
        return page.evaluate(f"[{style}.color, {style}.backgroundColor]")

    visit = Visit(browser, url, color_scheme="dark")
    ink, paper = (sum(map(int, c.removeprefix("rgb(").rstrip(")").split(","))) for c in colours(visit.page))
    assert ink > 600 > 150 > paper
    visit.page.emulate_media(media="print")
    assert colours(visit.page) == ["rgb(0, 0, 0)", "rgb(255, 255, 255)"]
    visit.page.close()
