"""A model that is small enough to load in every test, with a context long enough for the benchmark."""

from pathlib import Path

import gguf
import pytest

from shortlist.measure.synthetic import Shape, write


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
