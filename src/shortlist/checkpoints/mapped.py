"""Files that are mapped into memory, and what to check before they are read."""

import mmap
from pathlib import Path

import numpy as np

from shortlist.errors import CheckpointError

LFS = b"version https://git-lfs"
"""First bytes of a git-lfs pointer, a file whose content was not fetched."""


def refuse_pointer(path: Path, start: bytes) -> None:
    """Refuse a git-lfs pointer, a file whose content was not fetched.

    Raises
    ------
    CheckpointError
        The file starts like a pointer.
    """
    if start == LFS:
        raise CheckpointError(
            f"{path} is a pointer of git-lfs, not the file itself: run `git lfs pull` in its folder"
        )


class MappedFile:
    """A read-only memory map of a whole file.

    Raises
    ------
    CheckpointError
        The file is missing, empty or unreadable.
    """

    def __init__(self, path: Path):
        self.path = path
        try:
            with path.open("rb") as file:
                self._map = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        except ValueError:
            raise CheckpointError(f"{path} is empty: fetch it again") from None
        except OSError as error:
            raise CheckpointError(f"{path} cannot be read: {error.strerror}") from None
        self.bytes = np.frombuffer(self._map, np.uint8)
        refuse_pointer(path, self._map[: len(LFS)])

    def check(self) -> None:
        """Raise `CheckpointError` where the file has been cut: touching what is gone ends the process."""
        check_whole(self.path, self._map)

    @property
    def buffer(self) -> mmap.mmap:
        """The map itself, for `struct` and slicing."""
        return self._map

    def release(self, view: np.ndarray) -> None:
        """Let the kernel drop the pages of `view` from this process; they are read again if touched."""
        if not hasattr(mmap, "MADV_DONTNEED"):
            return
        start = view.ctypes.data - self.bytes.ctypes.data
        first = -(-start // mmap.PAGESIZE) * mmap.PAGESIZE  # pages shared with a neighbour stay
        length = (start + view.nbytes) // mmap.PAGESIZE * mmap.PAGESIZE - first
        if length > 0:
            self._map.madvise(mmap.MADV_DONTNEED, first, length)


def check_whole(path: Path, mapped: mmap.mmap) -> None:
    """Raise `CheckpointError` where a file is shorter now than its map."""
    if mapped.size() < len(mapped):
        raise CheckpointError(
            f"{path} was cut from {len(mapped)} to {mapped.size()} bytes while it was open: fetch it again"
        )
