"""The cache folder, for files that can be fetched or computed again, and atomic writing of files."""

import fcntl
import os
import re
import secrets
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import platformdirs

from shortlist.errors import ShortlistError, UsageError

HOME_VARIABLE = "SHORTLIST_HOME"


def cache_folder() -> Path:
    """`SHORTLIST_HOME` where it is set, else the platform's cache folder; it need not exist yet."""
    if home := os.environ.get(HOME_VARIABLE):
        return Path(home).expanduser()
    return platformdirs.user_cache_path("shortlist")


def check_writable(folder: Path) -> None:
    """Raise `UsageError` where a folder, or the first one above it that is there, cannot be written to.

    For what is written after long work: better to know before.
    """
    place = folder.absolute()
    there = next(parent for parent in (place, *place.parents) if parent.exists())
    try:
        with tempfile.TemporaryDirectory(dir=there, prefix=".shortlist-"):
            pass
    except OSError as error:
        raise UsageError(f"{folder} cannot be written ({error.strerror}): name another folder") from None


def write_whole(path: Path, text: str) -> None:
    """Write a file that is either whole or not there.

    Raises
    ------
    ShortlistError
        It cannot be written.
    """
    try:
        with partial_file(path) as partial:
            partial.write_text(text, encoding="utf-8")
    except OSError as error:
        raise ShortlistError(f"{path} cannot be written: {error.strerror or error}") from None


@contextmanager
def partial_file(path: Path) -> Iterator[Path]:
    """A name beside a file for writing it: it takes the file's place once whole, and is gone if it fails.

    What processes that died left of the same file goes too.
    """
    remove_leftovers(path.parent, re.escape(path.name))
    partial = path.with_name(f".{path.name}.{os.getpid()}-{secrets.token_hex(4)}")
    try:
        yield partial
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)


def remove_leftovers(folder: Path, names: str) -> None:
    """Remove what `partial_file` left in a folder when its process was killed.

    Parameters
    ----------
    folder
    names
        A regular expression for the names of the files that were written.
    """
    leftover = re.compile(rf"\.(?:{names})\.(\d+)-[0-9a-f]{{8}}")
    for path in folder.glob(".*"):
        match = leftover.fullmatch(path.name)
        if match and not _is_running(int(match[1])):
            path.unlink(missing_ok=True)


@contextmanager
def locked(folder: Path, *, alone: bool) -> Iterator[None]:
    """Hold a folder's lock: `alone` to write what belongs together, otherwise with others who read it.

    Where the folder is not there or cannot be locked, as on some networks' drives, nothing is held.
    """
    handle = -1
    try:
        with suppress(OSError):
            handle = os.open(folder, os.O_RDONLY)
            fcntl.flock(handle, fcntl.LOCK_EX if alone else fcntl.LOCK_SH)
        yield
    finally:
        if handle >= 0:
            os.close(handle)


@contextmanager
def held(folder: Path, doing: str) -> Iterator[None]:
    """Keep other processes, and other threads, from doing the same in a folder meanwhile.

    The system ends it with the process, however that ends. Where nothing can be locked, as on some networks'
    drives, nothing is held.

    Parameters
    ----------
    folder
        Which is there.
    doing
        What, as a participle: "trained in".

    Raises
    ------
    UsageError
        Another process does so; the message names it.
    """
    path = folder / ".lock"
    handle = -1
    try:
        with suppress(OSError):
            handle = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
        if handle >= 0:
            _hold(handle, folder, doing)
        yield
    finally:
        if handle >= 0:
            os.close(handle)


def _hold(handle: int, folder: Path, doing: str) -> None:
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        process = os.pread(handle, 20, 0).decode(errors="replace").strip() or "another one"
        raise UsageError(
            f"{folder} is being {doing} by process {process}: wait for it, or stop it first"
        ) from None
    except OSError:  # a drive without locks
        return
    os.ftruncate(handle, 0)
    os.pwrite(handle, f"{os.getpid()}\n".encode(), 0)


def _is_running(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except OSError:  # somebody else's
        pass
    return True
