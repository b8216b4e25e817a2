"""The catalogue is consistent in itself, and what it pins is what the package index has."""

import hashlib
from pathlib import Path

import pytest

from shortlist.checkpoints.catalogue import CATALOGUE


@pytest.mark.parametrize("name", CATALOGUE)
def test_entries_are_complete(name: str):
    entry = CATALOGUE[name]
    assert entry.name == name
    digests = [entry.sha256, *(part.sha256 for part in entry.parts)]
    assert len(set(digests)) == len(digests)
    assert all(len(digest) == 64 and int(digest, 16) >= 0 for digest in digests)
    assert len({part.package for part in entry.parts}) == len(entry.parts)
    # Quantized weights hardly compress: a part of another size would be another model.
    assert 0.9 < sum(part.bytes for part in entry.parts) / entry.bytes < 1


@pytest.mark.slow
def test_what_is_pulled_is_what_is_pinned(smollm2: Path, gemma: Path):
    for path, name in ((smollm2, "smollm2-135m"), (gemma, "gemma-3-270m")):
        with path.open("rb") as file:
            assert hashlib.file_digest(file, "sha256").hexdigest() == CATALOGUE[name].sha256
