"""`shortlist convert` on a tiny model."""

import json
import re
import signal
from functools import partial
from types import SimpleNamespace

import pytest
from builders import tiny_gguf, tiny_hf
from safetensors import SafetensorError

from shortlist.cli import convert, run_command
from shortlist.errors import UsageError
from shortlist.torch.convert.heal import distill
from shortlist.torch.converted_files import load_converted
from shortlist.torch.train.interrupt import Interrupt

TEXT = "the cat and a dog saw the bird in the garden, and there they sang of one more tale " * 120


@pytest.fixture
def text(tmp_path):
    path = tmp_path / "text.txt"
    path.write_text(TEXT)
    return str(path)


def test_a_model_is_written_and_the_table_says_what_it_costs(tiny, text, tmp_path, capfd):
    folder = tmp_path / "moe"
    options = ["--method", "cluster", "--experts", "3", "--heal-tokens", "600", "--threads", "1", "--json"]
    assert run_command(["convert", tiny, "--text", text, "-o", str(folder), *options]) == 0
    out, err = capfd.readouterr()
    assert err == "", "progress is for terminals"
    report = json.loads(out)
    assert [stage["stage"] for stage in report["stages"]] == ["dense", "converted", "healed"]
    again = ["convert", str(folder), "--method", "cluster", "-o", str(tmp_path / "again")]
    assert run_command(again) == 2
    assert "experts already" in capfd.readouterr().err
    dense, converted, healed = report["stages"]
    assert healed["bytes_per_token"] < dense["bytes_per_token"]
    assert abs(healed["perplexity"] - dense["perplexity"]) < abs(
        converted["perplexity"] - dense["perplexity"]
    )
    assert 0 <= report["notes"]["label churn"] <= 1
    assert dense["native_tokens_per_s"] > 0
    assert healed["native_tokens_per_s"] > 0
    assert len(list(load_converted(folder).parameters())) > 0


def test_the_model_writes_its_own_text_and_ctrl_c_keeps_what_is_healed(tiny, tmp_path, monkeypatch, capfd):
    monkeypatch.setattr("shortlist.torch.convert.pipeline.write_halves", write_little)

    def interrupt(self):
        self.number = signal.SIGINT
        return self

    monkeypatch.setattr(Interrupt, "__enter__", interrupt)
    monkeypatch.setattr(Interrupt, "__exit__", lambda self, *_: None)
    monkeypatch.setenv("COLUMNS", "72")
    folder = tmp_path / "moe"
    assert run_command(["convert", tiny, "--method", "upcycle", "-o", str(folder), "--threads", "1"]) == 130
    assert load_converted(folder) is not None
    out = capfd.readouterr().out
    assert "healed on 0 tokens" in out
    rows = [line.split()[0] for line in out.splitlines()[2:5]]
    assert rows == ["dense", "converted", "healed"], "a row is a line"


def write_little(path, report):
    from shortlist.torch.convert.texts import write_halves

    return write_halves(path, report, tokens=640, length=40)


@pytest.mark.parametrize(
    ("options", "code", "message"),
    [
        (["--method", "magic"], 2, "magic"),
        (["--method", "read-me", "--active", "0.5"], 2, "write it like"),
        (["--method", "read-me", "--layers", "first"], 2, "write it like 24-29"),
        (["--method", "read-me", "--text", "/nonesuch.txt"], 2, "cannot be read"),
        (["--method", "read-me", "--experts", "1"], 2, "2 to 256 experts"),
        (["--method", "read-me", "--heal-tokens", "-1"], 2, "cannot be negative"),
        (["--method", "read-me", "--heal-minutes", "nan"], 2, "cannot be negative"),
        (["--method", "read-me", "--seed", "-1"], 2, "seed must be from 0"),
    ],
)
def test_wrong_usage_is_one_line_before_any_work(tiny, tmp_path, capsys, options, code, message):
    assert run_command(["convert", tiny, "-o", str(tmp_path / "moe"), *options]) == code
    err = capsys.readouterr().err
    assert message in err
    assert err.count("\n") == 1
    assert not (tmp_path / "moe").exists()


def test_a_short_text_and_a_folder_that_exists(tiny, tmp_path, capsys):
    (tmp_path / "short.txt").write_text("the cat")
    short = ["convert", tiny, "--method", "read-me", "--text", str(tmp_path / "short.txt")]
    assert run_command([*short, "-o", str(tmp_path / "moe")]) == 2
    assert "give a longer text" in capsys.readouterr().err
    assert run_command([*short, "-o", str(tmp_path)]) == 2
    assert "exists: name a folder that does not" in capsys.readouterr().err


def test_a_model_that_transformers_cannot_read(text, tmp_path, capsys):
    tiny_gguf("arcee", tmp_path / "arcee.gguf", "Q8_0")
    command = ["convert", str(tmp_path / "arcee.gguf"), "--method", "upcycle", "--text", text]
    assert run_command([*command, "-o", str(tmp_path / "moe")]) == 2
    assert "transformers cannot read" in (err := capsys.readouterr().err)
    assert err.count("\n") == 1


def test_a_model_of_a_family_that_is_not_converted(text, tmp_path, capsys):
    tiny_gguf("gemma3n", tmp_path / "model.gguf")
    command = ["convert", str(tmp_path / "model.gguf"), "--method", "upcycle", "--text", text]
    assert run_command([*command, "-o", str(tmp_path / "moe")]) == 2
    assert "family gemma3n, which cannot be converted" in capsys.readouterr().err


def test_a_model_with_numbers_that_are_none(text, tmp_path, capsys):
    model = tiny_hf("llama", tmp_path / "model")
    model.model.layers[1].mlp.up_proj.weight.data.fill_(float("nan"))
    model.save_pretrained(tmp_path / "model")
    command = ["convert", str(tmp_path / "model"), "--method", "upcycle", "--text", text]
    assert run_command([*command, "-o", str(tmp_path / "moe")]) == 1
    assert "predicts no numbers, beginning with model.layers.1.mlp.up_proj" in capsys.readouterr().err


def test_healing_that_diverges_writes_nothing(tiny, text, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("shortlist.torch.convert.pipeline.distill", partial(distill, rate=1e30))
    command = ["convert", tiny, "--method", "upcycle", "--text", text, "--heal-tokens", "2000"]
    assert run_command([*command, "-o", str(tmp_path / "moe"), "--threads", "1"]) == 1
    err = capsys.readouterr().err
    assert re.match(r"shortlist: healing, step \d: .* not finite, beginning with .*layers\.1\.mlp", err)
    assert "nothing was written; --heal-tokens 0 leaves healing out" in err
    assert not (tmp_path / "moe").exists()


def test_no_space_and_no_folder(tiny, text, tmp_path, monkeypatch, capsys):
    command = ["convert", tiny, "--method", "upcycle", "--text", text, "--heal-tokens", "0"]
    assert run_command([*command, "-o", f"{text}/moe"]) == 2
    assert "moe cannot be written (Not a directory): name another folder" in capsys.readouterr().err
    with monkeypatch.context() as patched:
        patched.setattr("shutil.disk_usage", lambda _: SimpleNamespace(free=1000))
        assert run_command([*command, "-o", str(tmp_path / "moe")]) == 1
    assert "0.0 MB are left there: free some" in capsys.readouterr().err

    def full(*_, **__):
        raise SafetensorError("No space left on device")

    monkeypatch.setattr("shortlist.torch.converted_files.save_file", full)
    assert run_command([*command, "-o", str(tmp_path / "moe")]) == 1
    assert "moe cannot be written (No space left on device)" in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["text.txt"]


@pytest.mark.parametrize(
    ("stage", "left"), [("read_halves", "nothing was written"), ("native_speed", "moe is written, but not")]
)
def test_ctrl_c_says_what_is_there(tiny, text, tmp_path, monkeypatch, capsys, stage, left):
    def interrupt(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(f"shortlist.torch.convert.pipeline.{stage}", interrupt)
    command = ["convert", tiny, "--method", "upcycle", "--text", text, "--heal-tokens", "0"]
    assert run_command([*command, "-o", str(tmp_path / "moe")]) == 130
    assert left in capsys.readouterr().err


def test_without_pytorch_the_extra_is_named(tiny, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("shortlist.cli.extras.find_spec", lambda name: None)
    assert run_command(["convert", tiny, "--method", "read-me", "-o", str(tmp_path / "moe")]) == 1
    assert "shortlist[torch]" in capsys.readouterr().err


def test_lists_of_layers():
    assert convert.parse_layers("3,5,24-26") == (3, 5, 24, 25, 26)
    for wrong in ("", "a", "3-", "5-3", "1,,2", "0-99999", "0-99999999999999"):
        with pytest.raises(UsageError):
            convert.parse_layers(wrong)


@pytest.mark.slow
def test_smollm2(smollm2, tmp_path, capfd):
    text = tmp_path / "text.txt"
    text.write_text((shakespeare()).read_text()[:30000])
    options = ["--method", "cluster", "--heal-tokens", "1", "--active", "60%", "--json"]
    folder = tmp_path / "moe"
    assert run_command(["convert", str(smollm2), "--text", str(text), "-o", str(folder), *options]) == 0
    report = json.loads(capfd.readouterr().out)
    dense, converted, healed = report["stages"]
    assert dense["perplexity"] < healed["perplexity"] < converted["perplexity"]
    assert 0.5 < healed["active_ffn"] < 0.7
    assert load_converted(folder) is not None


def shakespeare():
    from pathlib import Path

    return Path(__file__).parents[2] / "benchmarks" / "data" / "shakespeare.txt"


@pytest.mark.parametrize(
    ("minutes", "tokens", "option"), [("1", "0", "--heal-minutes"), ("0", "5", "--heal-tokens")]
)
def test_a_budget_that_the_other_forbids_is_refused(minutes, tokens, option, tmp_path, capsys):
    command = ["convert", "/nonesuch.gguf", "--method", "cluster", "-o", str(tmp_path / "moe")]
    assert run_command([*command, "--heal-minutes", minutes, "--heal-tokens", tokens]) == 2
    assert f"{option} does nothing beside" in capsys.readouterr().err
