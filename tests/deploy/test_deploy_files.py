"""The systemd unit and the container file: what can be checked without installing or building."""

import configparser
import re
import shlex
import shutil
import subprocess
from pathlib import Path

import pytest

from shortlist.cli import app

ROOT = Path(__file__).parents[2]
UNIT, CONTAINER = ROOT / "deploy" / "shortlist.service", ROOT / "deploy" / "Containerfile"

INSTRUCTIONS = set("FROM RUN WORKDIR COPY USER ENV VOLUME EXPOSE HEALTHCHECK ENTRYPOINT CMD".split())  # noqa: SIM905


@pytest.fixture(scope="module")
def serve_options():
    """The options that `shortlist serve` has."""
    import typer

    command = typer.main.get_command(app)
    return {option for parameter in command.commands["serve"].params for option in parameter.opts}


def instructions():
    """Pairs of instruction and arguments, continued lines joined."""
    lines = [line for line in CONTAINER.read_text().splitlines() if line.strip() and not line.startswith("#")]
    text = "\n".join(lines).replace("\\\n", " ")
    return [tuple(line.split(maxsplit=1)) for line in text.splitlines()]


def test_the_unit_starts_a_command_that_exists(serve_options):
    unit = configparser.ConfigParser(interpolation=None, strict=False)
    unit.optionxform = str
    unit.read(UNIT)
    program, command, model, *arguments = shlex.split(unit["Service"]["ExecStart"])
    assert (Path(program).name, command, model) == ("shortlist", "serve", "smollm2-135m")
    used = [argument for argument in arguments if argument.startswith("--")]
    assert set(used) <= serve_options
    assert int(unit["Service"]["TimeoutStopSec"]) > 10  # the default of --drain


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="systemd-analyze checks units")
def test_systemd_understands_the_unit():
    done = subprocess.run(["systemd-analyze", "verify", UNIT], capture_output=True, text=True, timeout=60)
    complaints = [line for line in done.stderr.splitlines() if UNIT.name in line]
    # The one thing that it may miss is the installation itself.
    assert all("is not executable" in line for line in complaints), complaints


def test_the_container_file_follows_the_rules_of_its_linters(serve_options):
    steps = instructions()
    assert {name for name, _ in steps} <= INSTRUCTIONS
    images = [arguments.split()[0] for name, arguments in steps if name == "FROM"]
    assert all(re.fullmatch(r"[a-z]+:\d[\w.-]+", image) for image in images), "images have a version"
    names = [name for name, _ in steps]
    assert dict(steps)["USER"] != "root"
    assert names.index("USER") < names.index("ENTRYPOINT")
    for name, arguments in steps:
        if name == "RUN" and "apt-get install" in arguments:
            assert "--no-install-recommends" in arguments
            assert "rm -rf /var/lib/apt/lists/*" in arguments
            packages = arguments.split("--yes")[1].split("&&")[0].split()
            assert all("=" in package for package in packages), "packages have a version"
        if name == "COPY" and "--from" not in arguments:
            *sources, _ = arguments.split()
            assert all((ROOT / source).exists() for source in sources)
        if name in ("ENTRYPOINT", "CMD"):
            words = re.findall(r'"([^"]*)"', arguments)
            assert arguments.startswith("["), "a list starts no shell, so signals arrive"
            assert {word for word in words if word.startswith("--")} <= serve_options
