"""The defaults are the ones that the page tells and that the command line has."""

import dataclasses
from pathlib import Path

import pytest
import typer

from shortlist.cli import app
from shortlist.errors import UsageError
from shortlist.server import connections, limits, listen
from shortlist.server.settings import CHARACTERS_PER_TOKEN, ServerSettings

PAGE = (Path(__file__).parents[2] / "docs" / "serve.md").read_text()


@pytest.mark.parametrize(
    "row",
    [
        f"| `--slots` | {ServerSettings.slots} texts are decoded at once |",
        f"| `--queue` | {ServerSettings.queue} texts wait |",
        f"| `--timeout` | {ServerSettings.timeout:g} s for a request |",
        f"| `--max-body` | {ServerSettings.max_body:,} bytes |",
        f"| `--connections` | {ServerSettings.connections} connections at once |",
        f"| | {connections.HEAD_SECONDS:g} s for the headers of a request",
        f"| | {limits.BODY_SECONDS:g} s for the body",
        f"| | {listen.KEEP_ALIVE} s without a request",
    ],
)
def test_the_page_tells_the_limits(row):
    assert row in PAGE


def test_the_command_line_has_the_same_defaults():
    group = typer.main.get_command(app)
    serve = group.commands["serve"]  # pyright: ignore[reportAttributeAccessIssue]
    given = {parameter.name: parameter.default for parameter in serve.params}
    ours = {field.name: field.default for field in dataclasses.fields(ServerSettings) if field.name in given}
    assert {"slots", "queue", "connections", "timeout", "max_body", "max_prompt", "audit", "kv_tokens"} < set(
        ours
    )
    for name, default in ours.items():
        if name not in ("name", "cors"):
            assert given[name] == default, name


@pytest.mark.parametrize(
    "name", ["slots", "queue", "connections", "kv_tokens", "timeout", "max_body", "max_prompt", "audit"]
)
def test_limits_are_above_zero(name):
    assert getattr(ServerSettings(name="x", **{name: 1}), name) == 1
    for value in (0, -1, float("nan")):
        with pytest.raises(UsageError, match=f"--{name.replace('_', '-')} must be above 0"):
            ServerSettings(name="x", **{name: value})


def test_keys_are_not_empty():
    assert ServerSettings(name="x", api_keys=("a",)).api_keys == ("a",)
    with pytest.raises(UsageError, match="API key is empty"):
        ServerSettings(name="x", api_keys=("a", ""))


def test_how_long_a_text_may_be_before_it_is_cut_into_tokens():
    assert CHARACTERS_PER_TOKEN == 16  # longer than the mean token of any text, far shorter than a body
