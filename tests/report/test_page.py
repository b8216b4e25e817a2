"""The page, read without a browser."""

import base64
import hashlib
from html.parser import HTMLParser

import pytest
from report_example import HOSTILE, example_figures

from shortlist.report.page import LEVELS, render
from shortlist.report.verdict import verdict

pytest.importorskip("matplotlib")

SECTIONS = ["verdict", "words", "speed", "bytes", "strip", "layers", "recall"]
VOID = {"meta", "link", "br"}


class Page(HTMLParser):
    """Elements with their attributes, in order, and the text of those asked for; tags must balance."""

    def __init__(self, html):
        super().__init__(convert_charrefs=True)
        self.elements, self.open, self.texts = [], [], []
        self.feed(html)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))
        self.texts.append("")
        if tag not in VOID:
            self.open.append((tag, len(self.elements) - 1))

    def handle_startendtag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))
        self.texts.append("")

    def handle_endtag(self, tag):
        assert self.open.pop()[0] == tag

    def handle_data(self, data):
        for _, place in self.open:
            self.texts[place] += data

    def all(self, tag, of_class=None):
        return [
            (attributes, text)
            for (name, attributes), text in zip(self.elements, self.texts, strict=True)
            if name == tag and (of_class is None or of_class in attributes.get("class", "").split())
        ]


@pytest.fixture(scope="module")
def html():
    return render(example_figures())


@pytest.fixture(scope="module")
def page(html):
    return Page(html)


def test_every_section_is_there_with_its_figure(page):
    assert [attributes["id"] for attributes, _ in page.all("section")] == SECTIONS
    assert len(page.all("figure")) == len(page.all("svg")) == 6  # bytes, 3 of recall, speed, layers
    assert all(attributes["aria-label"] for attributes, _ in page.all("svg"))


def test_it_begins_with_the_verdict_in_plain_words(page):
    (_, headline) = page.all("p")[0]
    assert headline == verdict(example_figures()).headline
    assert page.all("section")[0][0]["id"] == "verdict"
    items = [text for _, text in page.all("li")]
    assert items == verdict(example_figures()).sentences
    words = [text for _, text in page.all("dt")]
    assert {"token", "head", "dense", "estimated", "perplexity", "recall"} <= set(words)
    assert "exact" not in words  # no way to decode of this report
    file, machine, text = [text for _, text in page.all("dd")][:3]
    assert file == HOSTILE + ".gguf"
    assert machine == "2 threads with avx2, which read memory at 26.0 GB/s"
    assert text.startswith("given: estimators were fitted to 1,024 tokens")


def test_recall_is_folded_away_and_nothing_else_is(page, html):
    folded = html.index('<details class="part">')
    assert html.index('<section id="recall">') < folded < html.index("<h2>Recall of every estimator</h2>")
    assert html.count('<details class="part">') == 1
    assert "<details open" not in html


def test_the_figures_of_a_token_stand_before_the_sample_and_cover_nothing(html):
    assert html.index('id="detail"') < html.index('class="strip" role')
    style = html[html.index("<style>") : html.index("</style>")]
    assert "sticky" not in style
    assert "position: fixed" not in style


def test_nothing_is_fetched(page):
    for tag, attributes in page.elements:
        for name in ("src", "href", "xlink:href", "action", "data"):
            assert attributes.get(name, "#").startswith(("#", "data:")), (tag, attributes)
        assert "url(http" not in attributes.get("style", "")
    (style, _) = page.all("style")[0]
    assert style == {}
    assert "@import" not in "".join(text for _, text in page.all("style"))


def test_untrusted_names_and_texts_are_only_text(page):
    assert len(page.all("script")) == 1
    assert page.all("h1")[0][1] == f"{HOSTILE}: what a shortlist saves"
    tokens = [text for attributes, text in page.all("span", "token") if "tabindex" in attributes]
    assert tokens == [" the", HOSTILE, "⏎\n", '"&']
    sections = {attributes["id"]: text for attributes, text in page.all("section")}
    assert HOSTILE in sections["speed"]  # the name of a point of the frontier


def test_a_token_says_what_it_read_and_what_was_chosen(page):
    attributes, _ = page.all("span", "other")[0]
    assert f"{HOSTILE.replace(' ', '␣')}: 400 rows read (40.00 %)" in attributes["title"]
    assert "rank 3 of the dense model" in attributes["title"]
    assert "␣a 25 %" in attributes["title"]
    levels = [attributes["class"].split()[1] for attributes, _ in page.all("span", "token")[-4:]]
    assert levels == ["level0", "level4", "level1", "level4"]


def test_shades_begin_at_what_the_legend_says(page):
    figures = example_figures()
    rows = [9, 10, 29, 30, 99, 100, 299, 300, 1000]  # of 1000
    example = figures["strip"]["tokens"][0]
    figures["strip"]["tokens"] = [{**example, "rows": count} for count in rows]
    shown = [a["class"].split()[1] for a, _ in Page(render(figures)).all("span", "token")[-len(rows) :]]
    assert shown == [f"level{level}" for level in (0, 1, 1, 2, 2, 3, 3, 4, 4)]
    legend = [text for attributes, text in page.all("span", "token") if "tabindex" not in attributes]
    assert LEVELS == (0.01, 0.03, 0.1, 0.3)
    assert legend == ["below 1 %", "below 3 %", "below 10 %", "below 30 %", "30 % or more"]


def test_one_token_is_a_tab_stop_and_the_others_are_reached_from_it(page):
    stops = [
        attributes["tabindex"] for attributes, _ in page.all("span", "token") if "tabindex" in attributes
    ]
    assert stops == ["0", "-1", "-1", "-1"]


def test_the_policy_allows_just_the_script_that_is_there(page):
    policy = next(
        a["content"] for a, _ in page.all("meta") if a.get("http-equiv") == "Content-Security-Policy"
    )
    (_, script) = page.all("script")[0]
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    assert f"script-src 'sha256-{digest}'" in policy
    assert policy.startswith("default-src 'none'")


def test_tables_repeat_the_figures(page):
    text = " ".join(" ".join(text for _, text in page.all("table")).split())
    for figure in ("96.0 MB", "88.0 %", "−0.20 % ± 0.20 %", "99.74 %", "75.0 %", "Q4_1"):
        assert figure in text


def test_what_was_not_measured_is_said(page):
    figures = example_figures()
    figures["layers"] = figures["recall"]["ffn"] = None
    figures["speed"] |= {"peer": {"name": "llama.cpp", "error": "not installed <x>"}, "frontier": []}
    bare = Page(render(figures))
    assert [attributes["id"] for attributes, _ in bare.all("section")] == SECTIONS
    sections = {attributes["id"]: text for attributes, text in bare.all("section")}
    assert "llama.cpp was not measured: not installed <x>" in sections["speed"]
    assert "All layers are dense" in sections["layers"]
    assert "have no gates" in sections["recall"]
    assert len(bare.all("svg")) == 4
