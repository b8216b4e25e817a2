"""`shortlist bench`, with a measurement that returns at once."""

import json

import pytest

from shortlist.cli.bench import sentence
from shortlist.errors import UsageError

ROW = {
    "engine": "shortlist",
    "head": "dense",
    "settings": "",
    "decode_tokens_per_s": 100.0,
    "prefill_tokens_per_s": 900.0,
    "bytes_per_token": 96.4e6,
    "bandwidth_share": 0.482,
    "peak_rss_mb": 150.0,
}
MISSING = {"engine": "llama.cpp", "head": "dense", "error": "not installed: pip install it"}


@pytest.fixture
def measured(monkeypatch, tmp_path):
    """A model file, and what `measure` was asked; `measured.runs` are the runs that it reports."""

    class Measured:
        model = tmp_path / "model.gguf"
        runs = [ROW]  # noqa: RUF012
        asked = ()

        def __call__(self, path, options, progress):
            self.asked = (path, options)
            progress("working")
            machine = {"read_gb_s": 20.0, "threads": 2, "isa": "avx2"}
            return {"machine": machine, "runs": self.runs, "ratios": {"shortlist_dense/llama.cpp": 2.5}}

    fake = Measured()
    fake.model.touch()
    monkeypatch.setattr("shortlist.peers.bench.measure", fake)
    return fake


def test_json_is_the_report(shortlist, measured):
    result = shortlist("bench", measured.model, "--json")
    assert result.code == 0
    assert json.loads(result.out) == {
        "machine": {"read_gb_s": 20.0, "threads": 2, "isa": "avx2"},
        "runs": [ROW],
        "ratios": {"shortlist_dense/llama.cpp": 2.5},
    }


def test_options_reach_the_measurement(shortlist, measured):
    peers = ("--peer", "llama.cpp", "--peer", "transformers", "--peer", "llama.cpp")
    shortlist("bench", measured.model, *peers, "--threads", 3, "-n", 7, "--repetitions", 2)
    path, options = measured.asked
    assert path == measured.model
    assert options.peers == ("llama.cpp", "transformers")
    assert (options.threads, options.decode_tokens, options.repetitions) == (3, 7, 2)
    assert options.heads == ("dense", "estimated", "exact")


def test_table_stands_beside_the_machine(shortlist, measured):
    measured.runs = [ROW, MISSING]
    result = shortlist("bench", measured.model)
    assert result.code == 0
    assert "this machine reads 20.0 GB/s" in result.out
    assert "shortlist, dense" in result.out
    assert "9.6" in result.out  # GB/s: 96.4 MB, 100 times a second
    assert "48%" in result.out
    assert "llama.cpp did not run: not installed: pip install it" in result.out
    assert "shortlist, dense, writes 2.50 times as fast as llama.cpp\n" in result.out


def test_fails_only_when_no_engine_ran(shortlist, measured):
    measured.runs = [MISSING]
    result = shortlist("bench", measured.model)
    assert result.code == 1
    assert result.err == "shortlist: no engine ran: not installed: pip install it\n"


def test_synthetic_model_is_written_and_measured_dense(shortlist, measured, monkeypatch):
    monkeypatch.setattr("shortlist.measure.synthetic.synthetic", lambda name: measured.model / name)
    result = shortlist("bench", "--synthetic", "llama-1b-q8_0", "--json")
    assert result.code == 0
    path, options = measured.asked
    assert path.name == "llama-1b-q8_0"
    assert options.heads == ("dense",)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((), "name a model, or a random one"),
        (("model", "--synthetic", "llama-1b-q4_0"), "and not both"),
        (("--synthetic", "llama-9b"), "there is no synthetic model llama-9b: choose llama-1b-q4_0 or"),
        (("MODEL", "--peer", "vllm"), "there is no peer vllm: choose llama.cpp"),
        (("MODEL", "-n", "0"), "from 1 to 1024"),
        (("no-such-model",), "no-such-model"),
    ],
)
def test_wrong_usage_is_one_line(shortlist, measured, arguments, message):
    named = [measured.model if argument == "MODEL" else argument for argument in arguments]
    result = shortlist("bench", *named)
    assert result.code == UsageError.exit_code
    assert message in result.err
    assert result.err.count("\n") == 1


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("shortlist/shortlist_dense", "shortlist, estimated, writes 0.50 times as fast as shortlist, dense"),
        ("shortlist_exact/llama.cpp", "shortlist, exact, writes 0.50 times as fast as llama.cpp"),
        (
            "shortlist_dense/ik_llama.cpp prefill",
            "shortlist, dense, reads a prompt 0.50 times as fast as ik_llama.cpp",
        ),
    ],
)
def test_ratios_are_sentences(name, words):
    assert sentence(name, 0.5) == words


def test_what_a_peer_chose_is_shown_and_why_a_head_was_chosen_is_not(shortlist, measured):
    measured.runs = [
        {**ROW, "settings": "the dense head was chosen"},
        {**ROW, "engine": "llama.cpp", "settings": "2 threads"},
        {"engine": "shortlist", "head": "estimated", "error": "it is not fitted yet"},
    ]
    out = shortlist("bench", measured.model).out
    assert "llama.cpp at its best: 2 threads\n" in out
    assert "was chosen" not in out
    assert "shortlist, estimated did not run: it is not fitted yet\n" in out


def test_fitting_first(shortlist, measured, monkeypatch):
    asked = []
    monkeypatch.setattr("shortlist.cli.bench.fitted", lambda *arguments: asked.append(arguments))
    shortlist("bench", measured.model, "--json")
    assert asked == []
    shortlist("bench", measured.model, "--json", "--fit", "--threads", "1")
    assert asked == [(str(measured.model), 1)]
    assert "--fit is for a real model" in shortlist("bench", "--synthetic", "llama-1b-q4_0", "--fit").err
