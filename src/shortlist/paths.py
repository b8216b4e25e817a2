"""Where this program keeps what it can fetch or compute again, and how files are written."""

import os
import tempfile
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
    partial = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        partial.write_text(text, encoding="utf-8")
        partial.replace(path)
    except OSError as error:
        raise ShortlistError(f"{path} cannot be written: {error.strerror or error}") from None
    finally:
        partial.unlink(missing_ok=True)
