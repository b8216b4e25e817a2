"""The page in headless Chromium, where there is one."""

from itertools import pairwise

import pytest
from chromium import Visit
from report_example import HOSTILE, example_figures

from shortlist.report.page import render

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
    for section in ("words", "speed", "bytes", "strip", "layers", "recall"):
        assert visit.page.locator(f"#{section} h2").is_visible()
    figures = visit.page.locator("figure svg")
    assert [figure.is_visible() for figure in figures.all()] == [True] * 3 + [False] * 3  # recall is folded
    visit.page.locator("#recall summary").first.click()
    assert figures.count() == 6
    boxes = [figures.nth(number).bounding_box() for number in range(6)]
    assert all(box["width"] > 300 and box["height"] > 120 for box in boxes)


def test_a_token_shows_its_figures_under_the_pointer(visit):
    assert "figures of a token stand here" in detail(visit)
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


def test_the_verdict_is_seen_without_scrolling(browser, url):
    visit = Visit(browser, url, viewport={"width": 390, "height": 740})
    box = visit.page.locator(".headline").bounding_box()
    assert box["y"] + box["height"] < 370
    visit.page.close()


BOXES = """(all) => all.map((each) => { const b = each.getBoundingClientRect();
  return [b.left, b.top, b.right, b.bottom, each.textContent]; })"""


@pytest.mark.parametrize("width", [320, 1200])
def test_no_text_of_a_figure_covers_another(browser, tmp_path, width):
    figures = example_figures()
    dense, estimated = figures["speed"]["points"]
    close = {"perplexity_change": 1e-5, "perplexity_change_error": 1e-5}
    figures["speed"]["points"] = [
        dense,
        estimated | close | {"tokens_per_s": 181.0},
        estimated | close | {"tokens_per_s": 182.0, "name": "exact"},
        estimated | close | {"tokens_per_s": 183.0, "name": "recipe"},
    ]
    figures["speed"]["peer"]["tokens_per_s"] = 180.5
    figures["strip"]["head"] = "recipe"
    (tmp_path / "page.html").write_text(render(figures), encoding="utf-8")
    visit = Visit(browser, (tmp_path / "page.html").as_uri(), viewport={"width": width, "height": 740})
    visit.page.evaluate("for (const details of document.querySelectorAll('details')) details.open = true")
    for figure in visit.page.locator("figure svg").all():
        boxes = figure.locator("text").evaluate_all(BOXES)
        assert len(boxes) > 5
        whole = figure.bounding_box()
        for number, (left, top, right, bottom, text) in enumerate(boxes):
            assert left >= whole["x"] - 1, text
            assert right <= whole["x"] + whole["width"] + 1, text
            for a, b, c, d, other in boxes[:number]:
                covered = max(0, min(right, c) - max(left, a)) * max(0, min(bottom, d) - max(top, b))
                assert covered < 0.1 * (right - left) * (bottom - top), (text, other)
    visit.page.close()


def test_the_box_of_a_token_covers_no_text(browser, url):
    visit = Visit(browser, url, viewport={"width": 390, "height": 500})
    visit.page.locator("#strip h2").scroll_into_view_if_needed()
    for share in (0, 0.3, 0.6):
        visit.page.evaluate(f"scrollBy(0, {share} * innerHeight)")
        boxes = visit.page.locator("#strip h2, #strip p, #strip .strip").evaluate_all(BOXES)
        boxes.sort(key=lambda box: box[1])
        for above, below in pairwise(boxes):
            assert above[3] <= below[1] + 1, (above[4], below[4])
    visit.page.close()


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
