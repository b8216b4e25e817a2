"""Matrices by input channel: nothing is lost in packing, and what is listed is what is added."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shortlist import _native

ROUNDING = 4e-6  # of float32 sums, in units of the largest output


def pack(weights: np.ndarray, target: str) -> _native.Rows:
    data = np.ascontiguousarray(weights, np.float32).view(np.uint8).reshape(-1)
    return _native.Rows.pack(data, "F32", *weights.shape, target)


def random_layer(seed: int, outputs: int, inputs: int) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    return rng.normal(size=(outputs, inputs)), rng.laplace(size=inputs).astype(np.float32)


def assert_near(actual: np.ndarray, expected: np.ndarray) -> None:
    error = np.abs(actual - expected)
    limit = ROUNDING * max(1.0, np.abs(expected).max())
    assert error.max() <= limit, f"output {error.argmax()}: {error.max():.1e} of at most {limit:.1e}"


@settings(deadline=None, max_examples=40)
@given(st.integers(0, 2**32 - 1), st.integers(1, 200), st.integers(1, 150), st.sampled_from(["", "q8", "q4"]))
def test_packing_keeps_every_weight(seed, outputs, inputs, target):
    weights, _ = random_layer(seed, outputs, inputs)
    rows = pack(weights, target)
    channels = _native.Channels(rows)
    kept = rows.unpack(np.arange(outputs, dtype=np.int32))
    channel = seed % inputs
    alone = np.zeros(inputs, np.float32)
    alone[channel] = 1.0  # 127 of 127, so that rounding it to 8 bits loses nothing
    assert_near(channels.matvec(alone), kept[:, channel])
    assert channels.nbytes >= channels.channel_bytes * inputs


@settings(deadline=None, max_examples=40)
@given(
    st.integers(0, 2**32 - 1),
    st.integers(1, 200),
    st.integers(1, 150),
    st.sampled_from(["", "q8", "q4"]),
    st.floats(0, 3, width=32),
)
def test_listed_and_unlisted_channels_add_up_to_all(seed, outputs, inputs, target, threshold):
    weights, x = random_layer(seed, outputs, inputs)
    rows = pack(weights, target)
    channels = _native.Channels(rows)
    # Weights of 0 leave out what is listed, those of infinity list what is not.
    listed = np.abs(x) >= np.float32(threshold)
    others = np.where(listed, 0, np.inf).astype(np.float32)
    everything = channels.matvec(x)
    assert_near(everything, rows.matvec(x))
    if x.all() and threshold > 0:
        assert_near(channels.matvec(x, threshold) + channels.matvec(x, 1.0, others), everything)


@pytest.mark.parametrize("target", ["", "q8", "q4"])
def test_many_outputs_on_any_number_of_threads(target):
    weights, x = random_layer(0, 4096 + 150, 70)  # more than a panel, and a block that is not full
    rows = pack(weights, target)
    channels, products = _native.Channels(rows), []
    for threads in (1, 2, 3):
        _native.set_threads(threads)
        products.append(channels.matvec(x, 0.5))
    assert np.array_equal(products[0], products[1])
    assert np.array_equal(products[0], products[2])
    assert_near(channels.matvec(x), rows.matvec(x))


@pytest.mark.parametrize("target", ["", "q8"])
def test_an_input_that_is_not_a_number_is_read(target):
    weights, x = random_layer(0, 3, 40)
    x[7] = np.nan
    product = _native.Channels(pack(weights, target)).matvec(x, 1e9)
    assert (product != 0).all()  # in 8 bits it is some number, as for dense rows


def test_no_channel_on_the_list_gives_zeros():
    weights, x = random_layer(0, 100, 40)
    assert not _native.Channels(pack(weights, "q4")).matvec(x, 1e9).any()


def test_what_does_not_fit_is_refused():
    weights, x = random_layer(0, 8, 64)
    tiled = _native.Rows.pack(
        weights.astype(np.float32).view(np.uint8).reshape(-1), "F32", 8, 64, "q8", None, True
    )
    with pytest.raises(ValueError, match="rows without tiles"):
        _native.Channels(tiled)
    channels = _native.Channels(pack(weights, "q8"))
    with pytest.raises(ValueError, match="x has 63 values where 64 are needed"):
        channels.matvec(x[:-1])
    with pytest.raises(ValueError, match="norms has 1 values where 64 are needed"):
        channels.matvec(x, 0.0, np.ones(1, np.float32))
