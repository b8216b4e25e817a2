"""Resolve the dependencies of pyproject.toml in a fresh environment and write constraints.txt.

The pins that stand now are ignored, except torch's: its version is chosen by hand, because every new one
changes what a fresh install downloads by gigabytes.
"""

import re
import subprocess
import sys
import tempfile
import tomllib
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
CONSTRAINTS = ROOT / "constraints.txt"
BUILD_TOOLS = ["cmake", "ninja", "setuptools"]  # for scikit-build-core, and for dependencies without a wheel
NOT_OURS = {"pip", "wheel", "shortlist"}


def requirements() -> list[str]:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    named = [*project["build-system"]["requires"], *BUILD_TOOLS, *project["project"]["dependencies"]]
    for extra in project["project"]["optional-dependencies"].values():
        named += [line for line in extra if not line.startswith("shortlist[")]
    return named


def main() -> None:
    text = CONSTRAINTS.read_text()
    heading = [line for line in text.splitlines() if line.startswith("#")]
    torch = re.findall(r"^torch==.*$", text, flags=re.MULTILINE)
    with tempfile.TemporaryDirectory() as folder:
        subprocess.run([sys.executable, "-m", "venv", folder], check=True)
        pip = [f"{folder}/bin/python", "-m", "pip", "--disable-pip-version-check"]
        subprocess.run([*pip, "install", *torch, *requirements()], check=True)
        listing = subprocess.run([*pip, "freeze", "--all"], check=True, capture_output=True, text=True).stdout
    pins = []
    for line in listing.splitlines():
        name, version = line.split("==")
        name = name.lower().replace("_", "-")
        if name not in NOT_OURS and not name.startswith(("nvidia-", "triton")):
            pins.append(f"{name}=={version.partition('+')[0]}")
    CONSTRAINTS.write_text("\n".join([*heading, *sorted(pins), ""]))


if __name__ == "__main__":
    main()
