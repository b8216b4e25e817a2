"""Text as tokens, and the order in which it is read."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from shortlist.errors import UsageError
from shortlist.torch.train.config import DataConfig
from shortlist.torch.train.text import Windows, check_length, in_order, read_texts, tokenize


@given(st.integers(0, 400), st.integers(2, 9), st.integers(0, 3), st.integers(1, 5))
def test_an_epoch_reads_pieces_that_do_not_overlap(extra, context, seed, size):
    tokens = np.arange(context + 2 + extra)
    windows = Windows(tokens, context, seed)
    count = max((len(tokens) - 1) // context - 1, 1)
    steps = -(-count // size)
    pieces = np.concatenate([windows.batch(step, size) for step in range(steps)])[:count]
    assert pieces.shape == (count, context + 1)
    assert (np.diff(pieces, axis=1) == 1).all(), "each is a run of the text"
    assert len(np.unique(pieces[:, 1:])) == count * context, "no token is predicted twice"


@given(st.integers(0, 50), st.integers(0, 3))
def test_a_step_depends_on_nothing_but_its_number(step, seed):
    tokens = np.arange(200)
    resumed = Windows(tokens, 8, seed).batch(step, 4)
    continued = Windows(tokens, 8, seed)
    for earlier in range(step):
        continued.batch(earlier, 4)
    assert (continued.batch(step, 4) == resumed).all()


def test_epochs_and_seeds_differ():
    tokens = np.arange(1000)
    windows = Windows(tokens, 10, 0)
    first, second = windows.batch(0, 98), windows.batch(1, 98)
    assert (first != second).any()
    assert (Windows(tokens, 10, 1).batch(0, 98) != first).any()


def test_validation_reads_from_the_beginning():
    pieces = in_order(np.arange(100), 10, limit=35)
    assert pieces.tolist() == [list(range(start, start + 11)) for start in (0, 10, 20)]
    assert len(in_order(np.arange(100), 10, limit=10_000)) == 9


def test_each_text_ends():
    tokens = tokenize(["ab", "c"], lambda text: [ord(c) for c in text], end=0)
    assert tokens.tolist() == [97, 98, 0, 99, 0]


def test_the_end_of_each_text_is_kept_apart(tmp_path):
    for name, text in (("a", "x" * 80 + "y" * 20), ("b", "z" * 100)):
        (tmp_path / name).write_text(text)
    data = DataConfig((str(tmp_path / "a"), str(tmp_path / "b")), validation_share=0.2)
    assert read_texts(data) == (["x" * 80, "z" * 80], ["y" * 20, "z" * 20])
    apart = DataConfig((str(tmp_path / "a"),), validation=(str(tmp_path / "b"),))
    assert read_texts(apart) == (["x" * 80 + "y" * 20], ["z" * 100])


@pytest.mark.parametrize(
    ("content", "message"),
    [(None, "cannot be read (No such file"), (b"", "is empty"), (b"a\xff", "is not valid UTF-8 (byte 2)")],
)
def test_a_text_that_cannot_be_used_is_named(tmp_path, content, message):
    path = tmp_path / "text"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(UsageError) as raised:
        read_texts(DataConfig((str(path),)))
    assert f"the text {path} {message}" in str(raised.value)


def test_a_text_that_is_too_short():
    check_length(np.arange(10), 8, "text")
    with pytest.raises(UsageError, match="the text has 9 tokens, fewer than one piece of 8"):
        check_length(np.arange(9), 8, "text")
