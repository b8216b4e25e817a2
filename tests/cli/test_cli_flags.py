"""The flags that scripts rely on. A change here is a change of the interface: say so in CHANGELOG.md."""

from typing import Any

import pytest
import typer.main

from shortlist.cli import app

SAMPLING = {
    "--temperature",
    "--top-k",
    "--top-p",
    "--min-p",
    "--repetition-penalty",
    "--seed",
    "--stop",
}
MODEL = {"--head", "--exact", "--ffn", "--recipe", "--weights", "--context", "--threads"}
FLAGS = {
    "pull": {"NAME", "--fit", "--json"},
    "fit": {"MODEL", "--text", "--weights", "--threads", "--json"},
    "run": {"MODEL", "PROMPT", "-n", "--max-tokens", "--logprobs", "--chat", "--stats", "--json"}
    | SAMPLING
    | MODEL,
    "chat": {"MODEL", "--system", "-n", "--max-tokens", "--json"} | SAMPLING | MODEL,
    "bench": {
        "MODEL",
        "--peer",
        "--synthetic",
        "-n",
        "--tokens",
        "--repetitions",
        "--fit",
        "--ffn",
        "--recipe",
        "--threads",
        "--json",
    },
    "tune": {
        "MODEL",
        "--text",
        "-o",
        "--output",
        "--max-perplexity",
        "--min-agreement",
        "--max-seconds",
        "--weights",
        "--threads",
        "--json",
    },
    "inspect": {"MODEL", "--recipe", "--json"},
    "report": {"MODEL", "--recipe", "--text", "-o", "--output", "--threads", "--json"},
    "train": {"CONFIG", "-o", "--output", "--plots", "--json"},
    "convert": {
        "MODEL",
        "--method",
        "-o",
        "--output",
        "--text",
        "--heal-minutes",
        "--heal-tokens",
        "--experts",
        "--active",
        "--layers",
        "--seed",
        "--threads",
        "--json",
    },
    "serve": {
        "MODEL",
        "--host",
        "--port",
        "--name",
        "--slots",
        "--connections",
        "--kv-tokens",
        "--queue",
        "--timeout",
        "--drain",
        "--max-body",
        "--max-prompt",
        "--api-key",
        "--api-key-file",
        "--cors",
        "--audit",
        "--log-prompts",
    }
    | MODEL,
    "eval": {"MODEL", "--text", "--tokens", "--json"} | MODEL - {"--context"},
}


def commands():
    group: Any = typer.main.get_command(app)
    return group.commands


def test_no_command_was_added_or_lost():
    assert set(commands()) == set(FLAGS)


@pytest.mark.parametrize("name", FLAGS)
def test_flags(name):
    found = set()
    for parameter in commands()[name].params:
        if parameter.param_type_name == "argument":
            found.add(parameter.metavar)
        else:
            found.update(parameter.opts)
    assert found == FLAGS[name]


@pytest.mark.parametrize("name", FLAGS)
def test_help_shows_an_example(shortlist, name):
    result = shortlist(name, "--help")
    assert shortlist(name, "-h").out == result.out
    assert result.code == 0
    assert f"Example: shortlist {name} " in result.out
