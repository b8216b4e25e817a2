"""How a checkpoint must be refused: with one line that says what is wrong."""

from collections.abc import Callable
from pathlib import Path

import pytest

from shortlist.checkpoints import open_checkpoint
from shortlist.errors import CheckpointError


@pytest.fixture
def refused() -> Callable[..., None]:
    """`refused(path, *words)`: opening fails with one line that contains the words."""

    def check(path: Path, *words: str) -> None:
        with pytest.raises(CheckpointError) as caught:
            open_checkpoint(path)
        message = str(caught.value)
        assert len(message.splitlines()) == 1
        assert message.isprintable()
        for word in words:
            assert word in message

    return check
