"""Fixtures of several folders: how a checkpoint must be refused, and a random model that loads at once."""

from collections.abc import Callable
from pathlib import Path

import gguf
import pytest

from shortlist.checkpoints import open_checkpoint
from shortlist.errors import CheckpointError
from shortlist.measure.synthetic import Shape, write


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


@pytest.fixture(scope="session")
def tiny_shape() -> Shape:
    return Shape(
        gguf.GGMLQuantizationType.Q4_0,
        layers=2,
        width=64,
        ffn_width=96,
        heads=4,
        kv_heads=2,
        vocab_size=320,
        context_length=1024,
    )


@pytest.fixture(scope="session")
def tiny_random(tiny_shape: Shape, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("synthetic") / "tiny.gguf"
    write(path, tiny_shape)
    return path
