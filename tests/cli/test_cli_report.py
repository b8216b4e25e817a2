"""`shortlist report`, with a measurement that returns at once; and what is refused before any work."""

import json
import re
import sys
from contextlib import ExitStack
from io import StringIO

import pytest
from builders import tiny_gguf
from report_example import HOSTILE, example_figures

from shortlist import recipe as recipes
from shortlist.checkpoints import open_checkpoint
from shortlist.cli import report
from shortlist.estimators import BitPlanes, Magnitude
from shortlist.report.layers import layer_budgets
from shortlist.selectors import Certified, Threshold

MODEL = "/models/tiny.gguf"


@pytest.fixture
def measured(monkeypatch):
    """The arguments of `measure`, with a name instead of a model."""
    asked = {}

    def measure(subject, text, *, progress):
        progress("measuring", 0.5)
        asked.update(subject=subject, text=text)
        return example_figures()

    monkeypatch.setattr(report, "_subject", lambda _, *arguments: arguments)
    monkeypatch.setattr("shortlist.report.measure.measure", measure)
    return asked


def test_the_page_and_its_figures_are_written(shortlist, measured, tmp_path):
    pytest.importorskip("matplotlib")
    text = tmp_path / "text.txt"
    text.write_text("some text")
    page = tmp_path / "page.html"
    result = shortlist("report", MODEL, "--text", text, "--recipe", "r", "--threads", 2, "-o", page)
    assert (result.code, result.out, result.err) == (0, f"{page}\n", "")
    assert measured == {"subject": (MODEL, "r", 2), "text": "some text"}
    assert page.read_text().startswith("<!doctype html>")
    assert json.loads((tmp_path / "page.json").read_text()) == example_figures()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["page.html", "page.json", "text.txt"]


def test_json_is_the_figures(shortlist, measured, tmp_path):
    pytest.importorskip("matplotlib")
    result = shortlist("report", MODEL, "-o", tmp_path / "page.html", "--json")
    assert json.loads(result.out)["model"] == HOSTILE
    assert result.out.count("\n") == 1


@pytest.mark.parametrize(
    ("output", "message"),
    [
        ("", "is a folder: name a file, such as"),
        ("page.json", "is where the figures would go: name the page"),
        ("missing/page.html", "to write page.html to: make it first"),
    ],
)
def test_places_that_cannot_be_written_are_refused_before_any_work(
    shortlist, measured, tmp_path, output, message
):
    result = shortlist("report", MODEL, "-o", tmp_path / output)
    assert result.code == 2
    assert message in result.err
    assert result.err.count("\n") == 1
    assert measured == {}


def test_a_missing_text_is_refused_before_any_work(shortlist, measured, tmp_path):
    result = shortlist("report", MODEL, "--text", tmp_path / "none.txt", "-o", tmp_path / "page.html")
    assert result.code == 2
    assert "none.txt cannot be read" in result.err
    assert measured == {}


def test_a_missing_library_is_said_before_any_work(shortlist, measured, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    result = shortlist("report", MODEL, "-o", tmp_path / "page.html")
    assert result.code == 1
    assert result.err.endswith("pip install 'shortlist[report]'\n")
    assert result.err.count("\n") == 1
    assert measured == {}


def test_an_interrupted_report_leaves_nothing(shortlist, measured, tmp_path, monkeypatch):
    def interrupt(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr("shortlist.report.measure.measure", interrupt)
    assert shortlist("report", MODEL, "-o", tmp_path / "page.html").code == 130
    assert list(tmp_path.iterdir()) == []


def test_a_model_that_is_not_there(shortlist, tmp_path):
    result = shortlist("report", "/nonesuch.gguf", "-o", tmp_path / "page.html")
    assert result.code == 2
    assert "/nonesuch.gguf" in result.err


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    path = tmp_path_factory.mktemp("tiny") / "tiny.gguf"
    tiny_gguf("llama", path, "Q8_0")
    return path


def test_a_model_without_a_recipe_is_compared_by_its_heads(tiny, monkeypatch, tmp_path):
    monkeypatch.setenv("SHORTLIST_HOME", str(tmp_path))
    with ExitStack() as stack:
        subject = report._subject(stack, str(tiny), None, 1)
        assert subject.name == "tiny.gguf"
        assert list(subject.variants()) == ["dense", "exact"]  # none is fitted


def test_a_recipe_of_layers_is_compared_with_all_dense(tiny, tmp_path):
    with open_checkpoint(tiny) as checkpoint:
        part = recipes.Part(Magnitude(weighted=False), Threshold(0.2), 96, 64, {})
        rows, width = checkpoint.tensors["embedding"].shape
        whole = recipes.Part(BitPlanes(), Certified(), rows, width, {})
        recipe = recipes.Recipe("tiny", checkpoint.fingerprint, {"layers.1.down": part, "head": whole})
    recipes.save(recipe, tmp_path)
    with ExitStack() as stack:
        subject = report._subject(stack, str(tiny), str(tmp_path), 1)
        assert list(subject.variants()) == ["dense", "exact", "recipe"]
        assert subject.dense is not subject.decoder
        budgets = layer_budgets(subject.decoder, subject.recipe, list(range(20)))
    assert budgets is not None
    assert 0 < budgets["channels"]["down"][1] < 1
    assert budgets["channels"]["down"][0] == budgets["channels"]["qkv"][1] == 1


@pytest.mark.parametrize("width", [60, 40])
def test_a_narrow_terminal_shows_the_whole_stage(monkeypatch, width):
    import rich.console

    written = StringIO()
    console = rich.console.Console(file=written, force_terminal=True, width=width, color_system=None)
    monkeypatch.setattr(rich.console, "Console", lambda **_: console)
    with report._stages() as progress:
        progress("walking through the sample", 0.5)
    lines = [
        line
        for line in re.sub(r"\x1b\[[\d;?]*[a-zA-Z]", "\n", written.getvalue()).splitlines()
        if "sample" in line
    ]
    assert lines
    for line in lines:
        assert line.startswith("walking through the sample ")
        assert line.rstrip().endswith("50%")
        assert len(line.rstrip()) <= width
