"""Commands that read a real file: inspect, eval; and pull."""

import dataclasses
import json

import pytest
from builders import tiny_gguf

from shortlist import checkpoints
from shortlist import recipe as recipes
from shortlist.cli import run_command
from shortlist.cli.fit import describe_fit
from shortlist.cli.inspect import describe_recipe
from shortlist.engine.choose_head import how_often_it_differs
from shortlist.estimators import BitPlanes, Exact, Int4Copy, Magnitude
from shortlist.fit.channels import unfitted_parts
from shortlist.recipe import Recipe
from shortlist.selectors import Certified, Threshold, TopK
from shortlist.sites.base import Part
from shortlist.sites.channels import ChannelSite
from shortlist.sites.neurons import FIRES

TEXT = "the cat and the dog and the bird " * 8


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    path = tmp_path_factory.mktemp("tiny") / "tiny.gguf"
    tiny_gguf("gemma3", path, "Q8_0")
    return path


@pytest.fixture(autouse=True)
def home(tmp_path, monkeypatch):
    monkeypatch.setenv("SHORTLIST_HOME", str(tmp_path / "home"))


@pytest.fixture
def text(tmp_path):
    path = tmp_path / "text.txt"
    path.write_text(TEXT)
    return str(path)


def report_of(capsys, *arguments):
    assert run_command([*map(str, arguments), "--json"]) == 0
    return json.loads(capsys.readouterr().out)


def test_inspect_counts_every_byte(tiny, capsys):
    report = report_of(capsys, "inspect", tiny)
    assert report["config"]["family"] == "gemma3"
    assert report["config"]["layers_with_window"] == 5
    with checkpoints.open_checkpoint(tiny) as checkpoint:
        stored = sum(tensor.data.nbytes for tensor in checkpoint.tensors.values())
    assert sum(part["bytes"] for part in report["parts"].values()) == stored
    assert set(report["parts"]) == {"head = embedding", "attention", "feed-forward", "norms and biases"}
    assert report["parts"]["attention"]["types"] == ["Q8_0"]
    assert report["recipe"] is None


def test_inspect_prints_a_bar_for_each_part(tiny, capsys):
    assert run_command(["inspect", str(tiny)]) == 0
    out = capsys.readouterr().out
    assert out.count("█ ") == 4
    assert f"shortlist fit {tiny}" in out


def test_a_recipe_is_fitted_by_fit_alone_and_shown(tiny, capsys, monkeypatch):
    for name in ("FIT_OWN", "CHOOSE", "MEASURE"):
        monkeypatch.setattr(f"shortlist.fit.head.{name}", 40)
    monkeypatch.setattr("shortlist.fit.head.RANKS", (32,))
    monkeypatch.setattr("shortlist.fit.head.best_head", lambda _seconds: "estimated")
    unfitted = report_of(capsys, "run", tiny, "the", "-n", 4)
    assert unfitted["stats"]["head"] in ("dense", "exact")
    assert report_of(capsys, "inspect", tiny)["recipe"] is None

    fitted = report_of(capsys, "fit", tiny)
    assert (fitted["alternatives"].get("head") or fitted["sites"]["head"])["estimator"]["name"] == "low_rank"
    assert report_of(capsys, "inspect", tiny)["recipe"] == fitted
    again = report_of(capsys, "run", tiny, "the", "-n", 4)
    assert again["stats"]["head"] == "estimated"
    assert any("may differ" in note for note in again["notes"])
    assert run_command(["inspect", str(tiny)]) == 0
    out = " ".join(capsys.readouterr().out.split())
    assert "low_rank" in out
    assert "may differ from the dense head's" in out


def test_an_estimated_head_that_is_not_fitted_is_one_line(tiny, monkeypatch, capsys):
    monkeypatch.setattr("shortlist.engine.choose_head.NARROWEST", 32)
    assert run_command(["run", str(tiny), "the", "--head", "estimated"]) == 2
    err = capsys.readouterr().err
    assert f"run shortlist fit {tiny}" in err
    assert err.count("\n") == 1


HEADS = {
    "exact": Part(BitPlanes(), Certified(), 9, 9, {}),
    "estimated": Part(Int4Copy(), TopK(4), 9, 9, {}),
}


def test_fit_says_what_came_of_it():
    measured = {"shortlisted": {"agreement": 0.995}, "tokens": 200}
    lines = {}
    for way in ("estimated", "exact"):
        figures = {**measured, "seconds_per_token": {"dense": 3.0, "exact": 2.0, "estimated": 1.5}}
        recipe = Recipe("tiny", "f", {"head": HEADS[way]}, {"head": figures})
        lines[way] = "\n".join(describe_fit("tiny", recipe))
        assert "2.00 times as fast as with the dense one" in lines[way]
        assert "0.50% of 200 tokens did" in lines[way]
    assert "It is used from now on" in lines["estimated"]
    assert "The exact head is used" in lines["exact"]


def test_pull_fits_where_that_is_asked_for_and_was_not_done(tiny, monkeypatch, capsys):
    monkeypatch.setattr(checkpoints, "pull", lambda name, *, progress: tiny)
    asked = []

    def fit(name, *, again, **_options):
        asked.append((name, again))
        return Recipe("tiny", "f", {"head": HEADS["exact"]})

    monkeypatch.setattr("shortlist.fit.fitting.fit", fit)
    assert "recipe" not in report_of(capsys, "pull", "tiny")
    assert asked == []
    assert report_of(capsys, "pull", "tiny", "--fit")["recipe"]["sites"]["head"]["way"] == "exact"
    assert asked == [("tiny", False)]


@pytest.mark.parametrize(
    "damage",
    [
        lambda measured: measured.clear(),
        lambda measured: measured["whole"].pop("dense"),
        lambda measured: measured["whole"]["shortlisted"].update(agreement="high"),
    ],
)
def test_a_recipe_that_lacks_figures_is_shown_without_them(tiny, tmp_path, capsys, damage):
    recipes.save(layer_recipe(tiny), tmp_path)
    path = tmp_path / recipes.FILE_NAME
    document = json.loads(path.read_text())
    damage(document["measured"])
    path.write_text(json.dumps(document))
    assert run_command(["inspect", str(tiny), "--recipe", str(tmp_path)]) == 0
    out = capsys.readouterr().out
    assert "layers.0.down" in out
    assert "does not say what its whole measured" in " ".join(out.split())


def layer_recipe(path):
    """One that reads half of the channels of two places, and says that it measured nothing special."""
    with checkpoints.open_checkpoint(path) as checkpoint:
        sites = (ChannelSite(name, checkpoint) for name in ("layers.0.down", "layers.1.qkv"))
        parts = unfitted_parts(sites)
        parts = {p: dataclasses.replace(part, selector=Threshold(0.5)) for p, part in parts.items()}
        figures = {
            "perplexity_change": 0.0,
            "perplexity_change_error": 0.0,
            "agreement": 1.0,
            "rows_share": 1.0,
            "bytes_per_token": 1000,
        }
        whole = {"tokens": 9, "dense": {"bytes_per_token": 2000}, "shortlisted": figures}
        return Recipe("tiny", checkpoint.fingerprint, {"head": None, **parts}, {"whole": whole})


def test_a_recipe_for_layers_is_used_by_every_command(tiny, tmp_path, text, capsys):
    recipes.save(layer_recipe(tiny), tmp_path / "layers")
    option = ["--recipe", tmp_path / "layers"]
    assert set(report_of(capsys, "inspect", tiny, *option)["recipe"]["sites"]) == {
        "head",
        "layers.0.down",
        "layers.1.qkv",
    }
    dense = report_of(capsys, "run", tiny, "the", "-n", 8, "--head", "dense")
    shortlisted = report_of(capsys, "run", tiny, "the", "-n", 8, *option)
    assert shortlisted["stats"]["head"] == "dense"
    assert shortlisted["stats"]["bytes_per_token"] <= dense["stats"]["bytes_per_token"]
    report = report_of(capsys, "eval", tiny, "--text", text, *option)
    assert report["shortlisted"]["bytes_per_token"] < report["dense"]["bytes_per_token"]
    assert 0 < report["shortlisted"]["agreement"] < 1
    assert report["shortlisted"]["perplexity"] != report["dense"]["perplexity"]
    assert report["shortlisted"]["recall"] == 1, "of its own hidden states"
    assert run_command(["inspect", str(tiny), *map(str, option)]) == 0
    assert "read per token" in capsys.readouterr().out


def test_a_recipe_for_layers_that_are_not_there_is_one_line(tiny, tmp_path, capsys):
    recipe = layer_recipe(tiny)
    sites = {"layers.99.down": recipe.sites["layers.0.down"]}
    recipes.save(dataclasses.replace(recipe, sites=sites), tmp_path)
    assert run_command(["run", str(tiny), "the", "--recipe", str(tmp_path)]) == 2
    err = capsys.readouterr().err
    assert "layers.99.down" in err
    assert err.count("\n") == 1


def test_ffn_needs_an_activation_with_zeros(tiny, capsys):
    assert run_command(["run", str(tiny), "the", "--head", "dense", "--ffn", "exact"]) == 2
    assert "exact zeros" in capsys.readouterr().err


def test_eval_compares_with_the_dense_head(tiny, text, capsys):
    report = report_of(capsys, "eval", tiny, "--text", text, "--exact")
    assert report["head"] == "exact"
    assert report["shortlisted"]["agreement"] == 1
    assert report["shortlisted"]["total_variation"] == 0
    assert report["shortlisted"]["perplexity"] == report["dense"]["perplexity"]
    assert report["shortlisted"]["bytes_per_token"] != report["dense"]["bytes_per_token"]
    assert report["recipe"] is None
    assert run_command(["eval", str(tiny), "--text", text, "--exact", "--tokens", "20"]) == 0
    out, err = capsys.readouterr()
    assert "agreement" in out
    assert err == ""
    assert run_command(["eval", str(tiny), "--text", text, "--head", "dense", "--tokens", "9999"]) == 0
    err = capsys.readouterr().err
    assert "tokens: all are used" in err
    assert "both columns are the same" in err


@pytest.mark.parametrize(
    ("content", "message"),
    [(None, "cannot be read: No such file"), (b"", "is empty"), (b"a\xff", "is not valid UTF-8 (byte 2)")],
)
def test_texts_that_cannot_be_used(tiny, tmp_path, capsys, content, message):
    path = tmp_path / "bad.txt"
    if content is not None:
        path.write_bytes(content)
    assert run_command(["eval", str(tiny), "--text", str(path), "--exact"]) == 2
    assert message in capsys.readouterr().err


@pytest.mark.parametrize(
    "arguments",
    [
        ["inspect", "/nonesuch.gguf"],
        ["run", "/nonesuch.gguf", "x"],
        ["eval", "/nonesuch.gguf", "--text", __file__],
    ],
)
def test_a_model_that_is_not_there(arguments, capsys):
    assert run_command(arguments) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert "/nonesuch.gguf" in err
    assert err.count("\n") == 1


def test_a_damaged_file_is_one_line_and_exit_code_1(tiny, tmp_path, capsys):
    path = tmp_path / "damaged.gguf"
    path.write_bytes(tiny.read_bytes()[:3000])
    for command in (["inspect", path], ["run", path, "x"]):
        assert run_command([str(part) for part in command]) == 1
        err = capsys.readouterr().err
        assert str(path) in err
        assert err.count("\n") == 1


def test_pull_prints_where_the_model_is(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(checkpoints, "pull", lambda name, *, progress: tmp_path / name)
    assert run_command(["pull", "tiny"]) == 0
    assert capsys.readouterr().out == f"{tmp_path / 'tiny'}\n"
    assert report_of(capsys, "pull", "tiny") == {"model": "tiny", "path": str(tmp_path / "tiny")}


def test_pull_of_an_unknown_name(capsys):
    assert run_command(["pull", "nonesuch"]) == 2
    assert "smollm2-135m" in capsys.readouterr().err


def test_without_a_command_the_help_is_shown(capsys):
    assert run_command([]) == 2
    assert "Commands:" in capsys.readouterr().err


def test_version(capsys, monkeypatch):
    monkeypatch.setattr("importlib.metadata.version", lambda name: f"1.2 of {name}")
    assert run_command(["--version"]) == 0
    assert capsys.readouterr().out == "1.2 of shortlist\n"


def test_sites_that_are_alike_are_shown_in_one_line():
    neurons = Part(Exact(), Threshold(FIRES), 9, 9, {})
    layers = {f"layers.{i}.neurons": neurons for i in range(3)} | {"layers.3.neurons": None}
    places = {"layers.0.o": {"keep": 0.5}}
    channels = Part(Magnitude(False), Threshold(0.25), 9, 9, {})
    recipe = Recipe(
        "tiny",
        "f",
        {"head": HEADS["estimated"], **layers, "layers.0.o": channels},
        {"places": places},
        {"head": HEADS["exact"]},
    )
    table = describe_recipe(recipe.summary())
    shown = [tuple(str(cell) for cell in column.cells) for column in table.columns]
    assert list(zip(*shown, strict=True))[:7] == [
        ("recipe, head", "estimated: int4_copy (), top_k (count 4, fetch None)"),
        ("", how_often_it_differs({})),
        ("recipe, neurons of 3 layers", f"exact: exact (), threshold (threshold {FIRES}, sigma 0.0)"),
        ("recipe, layers.3.neurons", "dense"),
        (
            "recipe, layers.0.o",
            "50% of the channels, estimated: magnitude (weighted False, rest 0), "
            "threshold (threshold 0.25, sigma 0.0)",
        ),
        ("fitted too, head", "exact: bit_planes (), certified (probes 256)"),
        ("measured", "the recipe does not say what its whole measured: use eval"),
    ]
