"""The page in headless Chromium, where there is one."""

import os
import shutil

import pytest
from report_example import HOSTILE, example_figures

from shortlist.evaluate.report.page import render

pytest.importorskip("matplotlib")
sync_api = pytest.importorskip("playwright.sync_api", reason="Playwright for Python is not installed")

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)

PATIENCE = 120_000  # milliseconds, for machines that have much else to do

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(CHROMIUM is None, reason="there is no Chromium: install it with apt install chromium"),
]


@pytest.fixture(scope="module")
def browser():
    sandbox = [] if os.getuid() else ["--no-sandbox"]  # Chromium refuses to run as root with its sandbox
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=sandbox)
        yield browser
        browser.close()


@pytest.fixture(scope="module")
def url(tmp_path_factory):
    path = tmp_path_factory.mktemp("page") / "report.html"
    path.write_text(render(example_figures()), encoding="utf-8")
    return path.as_uri()


class Visit:
    """An open page, what it wrote to the console, and what it asked for."""

    def __init__(self, browser, url, **options):
        self.page = browser.new_page(**options)
        self.page.set_default_timeout(PATIENCE)
        self.messages, self.requests = [], []
        self.page.on("console", lambda message: self.messages.append(message.text))
        self.page.on("pageerror", lambda error: self.messages.append(str(error)))
        self.page.on("dialog", lambda dialog: self.messages.append(dialog.message))
        self.page.on("request", lambda request: self.requests.append(request.url))
        self.page.goto(url)

    def detail(self):
        return self.page.locator("#detail").inner_text()


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
    assert "figures stand here" in visit.detail()
    visit.page.locator(".strip .token").nth(1).hover()
    assert "400 rows read (40.00 %)" in visit.detail()
    assert HOSTILE.replace(" ", "␣") in visit.detail()


def test_the_keyboard_walks_along_the_strip(visit):
    visit.page.locator(".strip .token").first.focus()
    assert "5 rows read" in visit.detail()
    visit.page.keyboard.press("ArrowRight")
    assert "400 rows read" in visit.detail()
    visit.page.keyboard.press("End")
    assert "1000 rows read" in visit.detail()
    visit.page.keyboard.press("ArrowRight")  # there is no further one
    assert "1000 rows read" in visit.detail()
    visit.page.keyboard.press("Home")
    assert "5 rows read" in visit.detail()


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
