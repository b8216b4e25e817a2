"""The page's files, read without a browser."""

import re
from html.parser import HTMLParser
from pathlib import Path

import httpx
import pytest

from shortlist.server.app import PAGE

SCRIPTS = sorted(PAGE.glob("*.js"))
INDEX = (PAGE / "index.html").read_text()
STYLE = (PAGE / "style.css").read_text()


class Elements(HTMLParser):
    """Every element with its attributes, and what it stands in."""

    def __init__(self, html):
        super().__init__()
        self.found, self.open = [], []
        self.feed(html)

    def handle_starttag(self, tag, attributes):
        self.found.append((tag, dict(attributes), [name for name, _ in self.open]))
        if tag not in ("meta", "link", "input"):
            self.open.append((tag, attributes))

    def handle_endtag(self, tag):
        assert self.open.pop()[0] == tag


ELEMENTS = Elements(INDEX).found
IDS = [attributes["id"] for _, attributes, _ in ELEMENTS if "id" in attributes]


def test_the_page_and_its_parts_are_served(serve_script):
    base = serve_script(b"ok")
    page = httpx.get(base + "/")
    assert page.status_code == 200
    assert page.text == INDEX
    for path in re.findall(r'(?:href|src)="(page/[^"]+)"', INDEX):
        assert httpx.get(f"{base}/{path}").status_code == 200, path
    for script in SCRIPTS:
        answer = httpx.get(f"{base}/page/{script.name}")
        assert "javascript" in answer.headers["content-type"]
        assert answer.text == script.read_text()


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.name)
def test_a_script_imports_what_is_there_and_is_short(script):
    text = script.read_text()
    for name in re.findall(r'from "\./([\w-]+\.js)"', text):
        assert (PAGE / name).is_file()
    assert len(re.findall(r"^import ", text, re.MULTILINE)) == len(re.findall(r'from "\./', text))
    assert text.count("\n") < 350


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.name)
def test_no_text_can_become_html_or_code(script):
    text = script.read_text()
    for way in (
        "innerHTML",
        "outerHTML",
        "insertAdjacentHTML",
        "document.write",
        "eval(",
        "new Function",
        "srcdoc",
    ):
        assert way not in text


def test_nothing_is_fetched_from_elsewhere():
    for _, attributes, _ in ELEMENTS:
        for name in ("src", "href", "action"):
            assert attributes.get(name, "page/").startswith(("page/", "data:,"))
    assert "url(" not in STYLE
    assert "@import" not in STYLE


def test_scripts_name_elements_that_are_there():
    assert len(set(IDS)) == len(IDS)
    for script in SCRIPTS:
        for name in re.findall(r'(?:byId|getElementById)\("([\w-]+)"\)', script.read_text()):
            assert name in IDS, (script.name, name)


def test_every_field_has_a_label_and_every_button_a_type():
    labelled = {
        attributes["for"] for tag, attributes, _ in ELEMENTS if tag == "label" and "for" in attributes
    }
    for tag, attributes, parents in ELEMENTS:
        if tag in ("input", "textarea", "select"):
            assert "label" in parents or attributes.get("id") in labelled
        if tag == "button":
            assert attributes["type"] in ("button", "submit")


def test_words_are_plain():
    for words in ("Fast", "Full (reads everything)", "Memory reads saved", "Max tokens", "New chat"):
        assert f">{words}" in INDEX or f"> {words}" in INDEX
    for words in ("Shortlisted", "Dense", "Most tokens", "logarithmic"):
        assert words not in INDEX


def test_there_are_three_examples_and_a_key_is_not_filled_in():
    assert (
        sum(tag == "button" and "div" in parents for tag, _, parents in ELEMENTS) == 3 + 3
    )  # and send, stop, retry
    key = next(attributes for _, attributes, _ in ELEMENTS if attributes.get("name") == "key")
    assert (key["type"], key["autocomplete"]) == ("password", "off")


def test_the_strip_is_a_hundred_pixels_high():
    assert re.search(r"#strip \{[^}]*height: 102px;[^}]*border: 1px", STYLE)
    assert "Math.log" not in (PAGE / "strip.js").read_text()
    assert re.findall(r"<span>(\d+ %)</span>", INDEX) == ["100 %", "50 %", "0 %"]


def test_settings_stay_within_what_the_server_takes():
    fields = {a["name"]: a for tag, a, _ in ELEMENTS if tag == "input" and a.get("type") == "number"}
    assert {name: (a.get("min"), a.get("max")) for name, a in fields.items()} == {
        "max_tokens": ("1", None),
        "temperature": ("0", "2"),
        "top_p": ("0.01", "1"),
        "top_k": ("0", None),
        "min_p": ("0", "1"),
        "seed": ("0", None),
    }


def test_the_folder_holds_no_other_files():
    assert {path.suffix for path in Path(PAGE).iterdir()} == {".html", ".css", ".js"}
