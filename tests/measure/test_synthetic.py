import errno
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from shortlist import checkpoints
from shortlist.errors import ShortlistError, UsageError
from shortlist.measure import synthetic as module
from shortlist.measure.synthetic import Q8_0, SHAPES, Shape, synthetic, write
from shortlist.model.decoder import Decoder
from shortlist.model.tokenizer.tokenizer import Tokenizer
from shortlist.sites.head import Head


def test_same_seed_writes_the_same_file(tiny_shape: Shape, tmp_path: Path) -> None:
    for name, seed in (("a", 0), ("b", 0), ("c", 1)):
        write(tmp_path / name, tiny_shape, seed)
    a, b, c = ((tmp_path / name).read_bytes() for name in "abc")
    assert a == b
    assert a != c


def test_model_loads_tokenizes_and_computes(tiny_random: Path) -> None:
    with checkpoints.open_checkpoint(tiny_random) as checkpoint:
        assert checkpoint.config.tied_head
        assert checkpoint.tensors["layers.1.down"].type == "Q4_0"
        tokenizer = Tokenizer.from_checkpoint(checkpoint)
        decoder = Decoder(checkpoint, threads=1)
    text = "The thing,\nover there: é 漢"
    tokens = tokenizer.encode(text)
    assert tokenizer.decode(tokens) == text
    hidden = decoder.forward(np.array(tokens, np.int32), decoder.new_cache(64))
    logits, _ = Head(decoder.head_rows).logits(hidden[-1])
    assert np.isfinite(logits).all()
    assert 0.3 < logits.std() < 3


def test_a_planted_share_of_the_neurons_fires_in_every_mode(tiny_shape: Shape, tmp_path: Path) -> None:
    shape = replace(tiny_shape, weights=Q8_0, width=256, ffn_width=512, active=0.16)
    write(tmp_path / "relu.gguf", shape)
    hidden = []
    for ffn in ("dense", "exact", "estimated"):
        with checkpoints.open_checkpoint(tmp_path / "relu.gguf") as checkpoint:
            assert checkpoint.config.activation == "relu"
            decoder = Decoder(checkpoint, ffn=ffn, threads=1)
        hidden.append(decoder.forward(np.arange(100, dtype=np.int32), decoder.new_cache(100)))
        if ffn == "exact":
            assert decoder.neurons_read / (100 * shape.layers * shape.ffn_width) == pytest.approx(
                0.16, abs=0.03
            )
    assert np.abs(hidden[1] - hidden[0]).max() < 0.01 * np.abs(hidden[0]).max()
    assert np.abs(hidden[2] - hidden[1]).max() < 0.001 * np.abs(hidden[1]).max()


def test_is_written_once_and_leaves_nothing_else(
    tiny_shape: Shape, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SHORTLIST_HOME", str(tmp_path))
    monkeypatch.setitem(SHAPES, "llama-1b-q4_0", tiny_shape)
    path = synthetic("llama-1b-q4_0")
    written = path.stat().st_mtime_ns
    assert synthetic("llama-1b-q4_0") == path
    assert path.stat().st_mtime_ns == written
    assert list(path.parent.iterdir()) == [path]


@pytest.mark.parametrize(
    ("happens", "expected", "message"),
    [
        (KeyboardInterrupt(), KeyboardInterrupt, None),
        (
            OSError(errno.ENOSPC, "No space left"),
            ShortlistError,
            r"\(No space left\): free some space, or set",
        ),
    ],
)
def test_writing_that_fails_leaves_no_file(
    happens: BaseException,
    expected: type[BaseException],
    message: str | None,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def fails(*_: object) -> None:
        raise happens

    monkeypatch.setenv("SHORTLIST_HOME", str(tmp_path))
    monkeypatch.setattr(module, "random_rows", fails)
    with pytest.raises(expected, match=message):
        synthetic("llama-1b-q8_0")
    assert list((tmp_path / "synthetic").iterdir()) == []


def test_unknown_shape_is_named_with_those_that_exist() -> None:
    with pytest.raises(UsageError, match=r"llama-9b.*llama-1b-q4_0 or llama-1b-q8_0 or .*llama-1b-mxfp4"):
        synthetic("llama-9b")


def test_shapes_are_those_of_the_models_that_they_are_named_after() -> None:
    one_b = SHAPES["llama-1b-q4_0"]
    assert (one_b.layers, one_b.width, one_b.ffn_width, one_b.heads, one_b.kv_heads) == (
        16,
        2048,
        8192,
        32,
        8,
    )
    assert (one_b.vocab_size, one_b.context_length, one_b.architecture, one_b.tied) == (
        49152,
        4096,
        "llama",
        True,
    )
    olmoe = SHAPES["olmoe-q4_0"]
    assert (olmoe.experts, olmoe.experts_per_token, olmoe.ffn_width, olmoe.kv_heads) == (64, 8, 1024, 16)
    assert (olmoe.architecture, olmoe.tied) == ("olmoe", False)
    assert SHAPES["llama-1b-relu-16"].active == 0.16
    assert not SHAPES["llama-1b-relu-16"].tied
    assert SHAPES["llama-1b-q8_0"].weights is SHAPES["llama-1b-relu-8"].weights is Q8_0
