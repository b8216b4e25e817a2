"""Messages when a command loads a model: warnings always, a hint on fitting once."""

import io
import sys
from types import SimpleNamespace

import pytest

from shortlist.cli import loading
from shortlist.cli.loading import load_model
from shortlist.errors import UsageError


class Terminal(io.StringIO):
    def isatty(self):
        return True


@pytest.fixture
def asked(monkeypatch, tmp_path):
    """The arguments of `load`; it returns `asked.model`, and `asked.gain` is the gain by fitting."""
    monkeypatch.setenv("SHORTLIST_HOME", str(tmp_path))
    decoder = SimpleNamespace(fingerprint="f00d")
    model = SimpleNamespace(recipe=None, warnings=[], decoder=decoder, head=None)
    asked = SimpleNamespace(model=model, gain=1.3, options=None)

    def load(name, **options):
        asked.options = options
        return model

    monkeypatch.setattr("shortlist.engine.load.load", load)
    monkeypatch.setattr("shortlist.engine.choose_head.gain_of_fitting", lambda *_: asked.gain)
    return asked


def said(monkeypatch, *, stream=None, head="auto", exact=False, hint=True):
    stream = stream or Terminal()
    monkeypatch.setattr(sys, "stderr", stream)
    load_model("tiny", head=head, exact=exact, hint=hint)
    return stream.getvalue()


def test_the_hint_is_said_once_for_each_model(asked, monkeypatch):
    monkeypatch.setenv("COLUMNS", "1000")
    line = said(monkeypatch)
    assert line.startswith("shortlist: hint: shortlist fit tiny takes about a minute")
    assert "about 1.3 times as fast" in line
    assert line.count("\n") == 1
    assert said(monkeypatch) == ""
    asked.model.decoder.fingerprint = "beef"
    assert said(monkeypatch) == line


@pytest.mark.parametrize(
    "quiet",
    [{"stream": io.StringIO()}, {"head": "dense"}, {"exact": True}, {"hint": False}],
    ids=["no terminal", "named", "exact", "json"],
)
def test_nobody_who_did_not_ask_is_told(asked, monkeypatch, quiet):
    assert said(monkeypatch, **quiet) == ""
    assert said(monkeypatch) != "", "and nothing was remembered"


@pytest.mark.parametrize(("gain", "told"), [(1.09, False), (1.1, True)])
def test_little_gain_is_no_hint(asked, monkeypatch, gain, told):
    asked.gain = gain
    assert bool(said(monkeypatch)) == told


def test_a_model_with_a_recipe_needs_no_hint(asked, monkeypatch):
    asked.model.recipe = object()
    assert said(monkeypatch) == ""


def test_where_nothing_can_be_remembered_nothing_is_said(asked, monkeypatch, tmp_path):
    (tmp_path / "hints").touch()
    assert said(monkeypatch) == ""


def test_warnings_are_said_every_time(asked, monkeypatch):
    asked.model.warnings = ["one", "two"]
    for _ in range(2):
        assert said(monkeypatch, stream=io.StringIO(), hint=False) == "shortlist: one\nshortlist: two\n"


@pytest.mark.parametrize(
    ("head", "exact", "expected"),
    [("auto", True, "exact"), ("exact", True, "exact"), ("auto", False, "auto"), ("dense", False, "dense")],
)
def test_exact_is_a_head(asked, head, exact, expected):
    load_model("tiny", head=head, exact=exact, threads=3)
    assert asked.options == {"head": expected, "threads": 3}


@pytest.mark.parametrize("head", ["dense", "estimated"])
def test_two_heads_contradict_each_other(asked, head):
    with pytest.raises(UsageError, match=f"--exact and --head {head} contradict"):
        load_model("tiny", head=head, exact=True)


def test_a_hint_is_worth_a_tenth():
    assert loading.WORTH_A_HINT == 1.1
