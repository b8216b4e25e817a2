"""Groups of options: the command line sees their fields, and the command gets the group."""

import inspect
from dataclasses import dataclass
from typing import Annotated

import pytest
import typer
from typer.testing import CliRunner

from shortlist.cli import options
from shortlist.cli.convert import Healing, Mixture
from shortlist.cli.loading import load_model
from shortlist.cli.serve import Limits
from shortlist.engine.load import load
from shortlist.engine.options import GenerationOptions
from shortlist.errors import UsageError
from shortlist.server.settings import ServerSettings


@dataclass(frozen=True)
class Two:
    first: Annotated[int, typer.Option("--first", min=1)] = 1
    second: Annotated[str | None, typer.Option("--second")] = None


@options.grouped
def command(name: str, *, before: bool = False, two: Two, after: int = 3) -> None:
    """Say what came."""
    print(name, before, two, after)


def test_fields_stand_in_the_place_of_their_group():
    assert list(inspect.signature(command).parameters) == ["name", "before", "first", "second", "after"]
    assert command.__doc__ == "Say what came."


def test_the_command_line_fills_groups():
    app = typer.Typer()
    app.command()(command)
    given = CliRunner().invoke(app, ["x", "--first", "2", "--second", "b", "--before"])
    assert given.output == f"x True {Two(2, 'b')} 3\n"
    assert CliRunner().invoke(app, ["x"]).output == f"x False {Two()} 3\n"
    assert CliRunner().invoke(app, ["x", "--first", "0"]).exit_code == 2


def test_groups_have_what_they_are_given_to():
    loads = {*inspect.signature(load).parameters, *inspect.signature(load_model).parameters}
    assert set(vars(options.Loading())) <= loads
    assert vars(options.Sampling()).keys() <= vars(GenerationOptions()).keys()
    settings = vars(ServerSettings(name="a"))
    assert {name: settings[name] for name in vars(Limits())} == vars(Limits())


def test_minutes_of_healing():
    assert Healing().minutes == 3.0
    assert Healing(heal_tokens=5).minutes is None
    assert Healing(heal_minutes=1.0).minutes == 1.0
    for useless, named in (
        ({"heal_minutes": 1.0, "heal_tokens": 0}, "--heal-minutes"),
        ({"heal_minutes": 0.0, "heal_tokens": 4}, "--heal-tokens"),
    ):
        with pytest.raises(UsageError, match=f"^{named} "):
            Healing(**useless)


def test_options_of_a_mixture_are_read_at_once():
    assert Mixture(experts=8, active="50%", layers="3-4", seed=1).parsed() == (8, 0.5, (3, 4), 1)
    assert Mixture().parsed() == (None, None, None, 0)
    with pytest.raises(UsageError, match="--layers x is not a list"):
        Mixture(layers="x")
