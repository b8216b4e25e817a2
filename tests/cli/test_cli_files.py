"""Commands that read a real file: inspect, eval; and pull."""

import json

import pytest
from builders import tiny_gguf

from shortlist import checkpoints
from shortlist.cli import run_command

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
    assert "no recipe yet" in out


def test_a_recipe_is_fitted_once_and_shown(tiny, capsys, monkeypatch):
    for name in ("FIT_OWN", "CHOOSE", "MEASURE"):
        monkeypatch.setattr(f"shortlist.calibrate.head.{name}", 40)
    monkeypatch.setattr("shortlist.calibrate.head.RANKS", (32,))
    fitted = report_of(capsys, "run", tiny, "the", "-n", 4, "--head", "estimated")
    assert fitted["stats"]["head"] == "estimated"
    recipe = report_of(capsys, "inspect", tiny)["recipe"]
    assert recipe["parts"]["head"]["estimator"]["name"] == "low_rank"

    monkeypatch.delattr("shortlist.calibrate.head.calibrate_head")
    again = report_of(capsys, "run", tiny, "the", "-n", 4, "--head", "estimated")
    assert again["tokens"] == fitted["tokens"]
    assert run_command(["inspect", str(tiny)]) == 0
    assert "low_rank" in capsys.readouterr().out


def test_eval_compares_with_the_dense_head(tiny, text, capsys):
    report = report_of(capsys, "eval", tiny, "--text", text, "--exact")
    assert report["head"] == "exact"
    assert report["shortlisted"]["agreement"] == 1
    assert report["shortlisted"]["total_variation"] == 0
    assert report["shortlisted"]["perplexity"] == report["dense"]["perplexity"]
    assert report["shortlisted"]["bytes_per_token"] != report["dense"]["bytes_per_token"]
    assert report["recipe"] is None
    assert run_command(["eval", str(tiny), "--text", text, "--exact", "--tokens", "20"]) == 0
    assert "agreement" in capsys.readouterr().out


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
