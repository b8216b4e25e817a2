"""Each script of a published system imports what it needs and describes itself."""

import re
import runpy
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SCRIPTS = sorted((ROOT / "lab" / "systems").glob("s[0-9]_*.py"))


def test_there_are_scripts():
    assert len(SCRIPTS) > 20


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda script: script.stem)
def test_a_script_prints_its_help(script, capsys, monkeypatch):
    # A script that took no options would run whole here, so this is looked at first.
    assert re.search(r"parse_args|arguments_of|task_arguments|text_of", script.read_text(encoding="utf-8"))
    monkeypatch.setattr(sys, "argv", [str(script), "--help"])
    with pytest.raises(SystemExit) as end:
        runpy.run_path(str(script), run_name="__main__")
    assert not end.value.code
    shown = capsys.readouterr().out
    assert "--help" in shown
    assert f"lab/systems/{script.name}" in shown


@pytest.mark.parametrize("name", ["real_tables.TEXT", "tiny_runs.TEXT", "small_mixtures.TEXT"])
def test_texts_of_the_scripts_are_there(name):
    module, _, constant = name.partition(".")
    assert getattr(__import__(module), constant).is_file()


def test_the_page_of_systems_names_scripts_that_are_there():
    page = (ROOT / "docs" / "systems.md").read_text(encoding="utf-8")
    named = set(re.findall(r"\bs\d_\w+\.py", page))
    assert named - {script.name for script in SCRIPTS} == set()
