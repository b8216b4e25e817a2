"""`shortlist tune` on a tiny model."""

import json

import pytest
from builders import tiny_gguf

from shortlist.cli import run_command, tune
from shortlist.errors import UsageError
from shortlist.estimators import BitPlanes
from shortlist.fit.tune import Tuned
from shortlist.recipe import Recipe
from shortlist.selectors import Certified
from shortlist.sites.base import Part

TEXT = "the cat and a dog saw the bird in the " * 60


@pytest.fixture
def text(tmp_path):
    path = tmp_path / "text.txt"
    path.write_text(TEXT)
    return str(path)


def test_a_recipe_is_written_and_used(tiny, text, tmp_path, capfd):
    folder = str(tmp_path / "tuned")
    assert run_command(["tune", tiny, "--text", text, "-o", folder, "--threads", "1", "--json"]) == 0
    out, err = capfd.readouterr()
    assert err == "", "progress is for terminals"
    report = json.loads(out)
    assert report["verified"] is True
    assert (report["interrupted"], report["out_of_time"]) == (False, False)
    assert report["measured"]["tuned"]["max_perplexity"] == pytest.approx(0.005)
    whole = report["measured"]["whole"]["shortlisted"]
    assert whole["perplexity_change"] + 1.96 * whole["perplexity_change_error"] <= 0.005
    assert set(report["measured"]["channel_seconds"]) == {"qkv", "o", "gate_up", "down"}
    assert run_command(["run", tiny, "the", "-n", "4", "--recipe", folder, "--json"]) == 0
    assert (
        json.loads(capfd.readouterr().out)["stats"]["head"]
        == (report["sites"]["head"] or {"way": "dense"})["way"]
    )
    assert run_command(["inspect", tiny, "--recipe", folder]) == 0
    assert "whole, measured on" in capfd.readouterr().out


def test_a_mixture_of_experts(text, tmp_path, capsys):
    tiny_gguf("qwen3_moe", tmp_path / "moe.gguf", "Q8_0")
    command = ["tune", str(tmp_path / "moe.gguf"), "--text", text, "-o", str(tmp_path / "tuned"), "--json"]
    assert run_command([*command, "--threads", "1"]) == 0
    assert json.loads(capsys.readouterr().out)["verified"] is True


def test_a_folder_that_cannot_be_written_is_refused_before_any_work(tiny, text, capsys):
    assert run_command(["tune", tiny, "--text", text, "-o", f"{text}/tuned"]) == 2
    assert "tuned cannot be written (Not a directory)" in capsys.readouterr().err


def test_ctrl_c_keeps_the_best_so_far_and_exits_with_130(tiny, text, tmp_path, monkeypatch, capsys):
    def interrupt(self):
        raise KeyboardInterrupt

    monkeypatch.setattr("shortlist.fit.search.Search.run", interrupt)
    folder = tmp_path / "tuned"
    assert run_command(["tune", tiny, "--text", text, "-o", str(folder), "--threads", "1"]) == 130
    assert (folder / "recipe.json").exists()
    out = capsys.readouterr().out
    assert f"use it with --recipe {folder}" in out
    assert "interrupted: this is the best" in out
    assert "nothing was found" in out
    command = ["tune", tiny, "--text", text, "-o", str(folder), "--threads", "1", "--json"]
    assert run_command(command) == 130
    report = json.loads(capsys.readouterr().out)
    assert (report["interrupted"], report["out_of_time"], report["found"]) == (True, False, False)


@pytest.mark.parametrize(
    ("tuned", "said"),
    [
        ({"out_of_time": True}, ["out of time", "nothing was found"]),
        (
            {"verified": False, "interrupted": True},
            ["interrupted: this", "not verified", "nothing was found"],
        ),
        ({"recipe": Recipe("t", "f", {"head": Part(BitPlanes(), Certified(), 9, 9, {})})}, []),
        ({}, ["nothing was found"]),
    ],
)
def test_how_it_ended_is_said(capsys, tuned, said):
    plain = {"verified": True, "interrupted": False, "out_of_time": False}
    ended = Tuned(**{"recipe": Recipe("t", "f", {"head": None, "layers.0.neurons": None}), **plain, **tuned})
    tune.print_report(ended.recipe.summary(), ended, "folder")
    out = capsys.readouterr().out
    for words in ("out of time", "interrupted: this", "not verified", "nothing was found"):
        assert (words in out) == (words in said)


@pytest.mark.parametrize(("written", "share"), [("0.5%", 0.005), ("100%", 1.0), ("99.9%", 0.999)])
def test_shares(written, share):
    assert tune.parse_share(written, "--max-perplexity") == pytest.approx(share)


@pytest.mark.parametrize("written", ["0.5", "", "%", "a lot%", "1/2%"])
def test_shares_without_a_per_cent_sign_could_mean_anything(written):
    with pytest.raises(UsageError, match=r"write it like 0\.5%"):
        tune.parse_share(written, "--max-perplexity")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--max-perplexity", "0%"], "more than 0 %"),
        (["--min-agreement", "101%"], "from 0 % to 100 %"),
        (["--max-seconds", "-1"], "more than 0"),
    ],
)
def test_a_goal_out_of_range_is_refused_before_any_work(tmp_path, capsys, options, message):
    assert run_command(["tune", "/nonesuch.gguf", "--text", __file__, "-o", str(tmp_path), *options]) == 2
    assert message in capsys.readouterr().err
