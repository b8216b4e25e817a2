"""Properties of every open checkpoint: a fingerprint, memory that can be released, and a clean end."""

import errno
import mmap
import shutil
from pathlib import Path

import numpy as np
import pytest
from raw_gguf import small_llama

from shortlist.checkpoints import open_checkpoint
from shortlist.checkpoints.mapped import MappedFile
from shortlist.errors import CheckpointError


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "model.gguf"
    path.write_bytes(small_llama())
    return path


def fingerprint(path: Path) -> str:
    with open_checkpoint(path) as checkpoint:
        return checkpoint.fingerprint


def test_the_fingerprint_names_the_content_not_the_place(path: Path):
    elsewhere = path.with_name("copy.gguf")
    shutil.copy(path, elsewhere)
    assert fingerprint(path) == fingerprint(elsewhere)


def test_the_fingerprint_tells_headers_and_weights_apart(path: Path):
    before = fingerprint(path)
    content = bytearray(small_llama())
    content[-2] ^= 1
    path.write_bytes(content)
    changed_weight = fingerprint(path)
    path.write_bytes(small_llama(settings={"llama.context_length": 65}))
    assert len({before, changed_weight, fingerprint(path)}) == 3


def test_after_close_nothing_is_held(path: Path):
    checkpoint = open_checkpoint(path)
    view = checkpoint.tensors["embedding"].data
    checkpoint.close()
    assert not checkpoint.tensors
    assert not checkpoint.tokenizer_source
    assert view.sum() == 0  # a view outlives the checkpoint
    del view
    assert str(path) not in Path("/proc/self/maps").read_text()


@pytest.mark.skipif(not hasattr(mmap, "MADV_DONTNEED"), reason="the platform has no madvise")
def test_released_pages_leave_memory_and_come_back(tmp_path: Path):
    path = tmp_path / "data"
    content = np.random.default_rng(0).integers(0, 256, 64 * mmap.PAGESIZE, np.uint8)
    content.tofile(path)
    file = MappedFile(path)
    view = file.bytes[100:-100]  # neither end at the border of a page
    total = int(view.sum())
    before = resident_pages(path)
    file.release(view)
    assert before - resident_pages(path) >= 60
    assert int(view.sum()) == total
    file.release(file.bytes[10:20])  # less than a page: nothing to give back, and no harm


def resident_pages(path: Path) -> int:
    lines = Path("/proc/self/smaps").read_text().splitlines()
    start = next(i for i, line in enumerate(lines) if line.endswith(str(path)))
    kilobytes = next(line for line in lines[start:] if line.startswith("Rss:")).split()[1]
    return int(kilobytes) * 1024 // mmap.PAGESIZE


def test_release_by_name(path: Path):
    with open_checkpoint(path) as checkpoint:
        checkpoint.release("embedding")
        assert checkpoint.tensors["embedding"].data.sum() == 0


def test_an_empty_file(tmp_path: Path, refused):
    path = tmp_path / "model.gguf"
    path.touch()
    refused(path, f"{path} is empty: fetch it again")


def test_a_missing_file(tmp_path: Path, refused):
    refused(tmp_path / "model.gguf", "does not exist")


def test_a_file_that_may_not_be_read(path: Path, refused, monkeypatch: pytest.MonkeyPatch):
    def forbidden(*_: object) -> None:  # permissions do not bind the superuser, who may run this test
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr(Path, "open", forbidden)
    refused(path, f"{path} cannot be read: Permission denied")


def test_a_folder_is_not_a_file(tmp_path: Path):
    with pytest.raises(CheckpointError, match="cannot be read: Is a directory"):
        MappedFile(tmp_path)
