"""`shortlist train`: what it prints, and how it ends."""

import json
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from torch_runs import TEXT

from shortlist.cli import run_command
from shortlist.cli.train import describe_load

CONFIG = """
[data]
text = ["text.txt"]
vocabulary = 270
[model]
hidden_size = 32
intermediate_size = 64
num_hidden_layers = 1
[training]
steps = 4
batch = 2
context = 8
log_every = 1
checkpoint_every = 2
"""


@pytest.fixture
def config(tmp_path):
    path = tmp_path / "tiny.toml"
    path.write_text(CONFIG)
    (tmp_path / "text.txt").write_text(TEXT)
    return path


@pytest.fixture
def no_plots(monkeypatch):
    monkeypatch.setattr("shortlist.torch.train.run.draw_plots", lambda run: [])


def test_a_run_from_begin_to_end(config, tmp_path, capfd):
    assert run_command(["train", str(config)]) == 0
    out, err = capfd.readouterr()
    folder = tmp_path / "tiny"
    assert out.startswith("validation loss ")
    assert f'use it with shortlist run {folder} "Once upon a time"' in out
    assert err == "", "quiet where there is no terminal"
    assert run_command(["train", str(folder), "--plots"]) == 0
    assert capfd.readouterr().out == f"{folder / 'plots' / 'loss.svg'}\n"
    assert run_command(["train", str(folder), "--plots", "--json"]) == 0
    assert json.loads(capfd.readouterr().out) == {"plots": [str(folder / "plots" / "loss.svg")]}
    assert run_command(["run", str(folder), "the cat", "-n", "2"]) == 0


def test_json(config, tmp_path, capsys, no_plots):
    assert run_command(["train", str(config), "-o", str(tmp_path / "run"), "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert document.pop("validation_loss") > 0
    assert document == {"folder": str(tmp_path / "run"), "step": 4, "finished": True, "note": None}


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_stops_it_and_it_says_how_to_continue(
    number, code, config, tmp_path, capsys, monkeypatch, no_plots
):
    from shortlist.torch.train import metrics

    write = metrics.append

    def interrupt(run, line):
        write(run, line)
        if line["step"] == 3:
            signal.raise_signal(number)

    with monkeypatch.context() as patched:
        patched.setattr(metrics, "append", interrupt)
        assert run_command(["train", str(config)]) == code
    out, err = capsys.readouterr()
    assert out == ""
    assert err == f"stopped after step 3 of 4: continue with shortlist train {tmp_path / 'tiny'}\n"
    assert run_command(["train", str(tmp_path / "tiny")]) == 0
    assert "after 4 steps" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "change", "message"),
    [
        ([], ("steps = 4", "step = 4"), "training.step is not a key that is known: did you mean steps?"),
        ([], ("text.txt", "tex.txt"), "tex.txt cannot be read (No such file or directory)"),
        ([], ("context = 8", "context = 80000"), "fewer than one piece of 80000"),
        (
            [],
            ("hidden_size", 'hidden_act = "magic"\nhidden_size'),
            "cannot build this model (KeyError: 'magic')",
        ),
        ([], ("hidden_size", 'rms_norm_eps = "x"\nhidden_size'), "expected float, got str"),
        ([], ("hidden_size", "vocab_size = 9\nhidden_size"), "vocab_size is as the tokenizer has it"),
        ([], ("[training]", "[moe]\nlosses = {router_z = nan}\n[training]"), "router_z must be finite"),
        (["--plots"], ("", ""), "--plots draws those of a run"),
        (["-o", "."], ("", ""), "is in use: name a new folder"),
    ],
)
def test_mistakes_are_one_line(config, capsys, arguments, change, message):
    config.write_text(CONFIG.replace(*change))
    assert run_command(["train", str(config), *arguments]) == 2
    err = capsys.readouterr().err
    assert message in err
    assert err.startswith("shortlist: ")
    assert err.count("\n") == 1


def test_folders_that_hold_no_run(tmp_path, capsys):
    assert run_command(["train", str(tmp_path)]) == 2
    assert f"{tmp_path} holds no run: begin one with shortlist train CONFIG.toml" in capsys.readouterr().err
    assert run_command(["train", str(tmp_path), "-o", "x"]) == 2
    assert "leave out -o" in capsys.readouterr().err


def test_without_torch_the_extra_is_named(config, capsys, monkeypatch):
    monkeypatch.setattr("shortlist.cli.extras.find_spec", lambda name: None if name == "torch" else object())
    assert run_command(["train", str(config)]) == 1
    assert capsys.readouterr().err == (
        "shortlist: training needs torch, which is not installed: pip install 'shortlist[torch]'\n"
    )


def test_help_and_configurations_need_no_torch(config):
    code = (
        "import sys; from shortlist.cli import run_command; run_command(['train', '--help']);"
        "from shortlist.torch.train import read_config; read_config(sys.argv[1]);"
        "print(sorted({'numpy', 'rich', 'torch', 'transformers'} & set(sys.modules)), file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", code, config], capture_output=True, text=True, check=True)
    assert done.stderr == "[]\n"


def test_bars_of_the_load():
    layers = [{"load": [0.5, 0.5]}, {"load": [0.0, 1.0]}, {"load": [0.25, 0.25, 0.5, 0.0]}]
    assert describe_load(layers) == "▅▅ ▁█ ▅▅█▁"
    assert describe_load([{"load": [0.5, 0.125] + [0.0] * 62}]) == "up to 32.0 times even"


def test_progress_on_a_terminal(config, capsys, monkeypatch, no_plots):
    monkeypatch.setenv("FORCE_COLOR", "1")
    with config.open("a") as file:
        file.write("[moe]\nexperts = 2\n")
    assert run_command(["train", str(config)]) == 0
    err = capsys.readouterr().err
    assert re.search(r"loss \d\.\d{3} \(validation \d\.\d{3}\)  \d+ tokens/s  load [▁▂▃▄▅▆▇█]{2}", err)


def test_the_example_is_valid():
    from shortlist.torch.train import read_config

    example = Path(__file__).parents[2] / "examples" / "train.toml"
    config = read_config(example)
    assert all(Path(name).is_file() for name in config.data.text)
    assert config.moe is not None
