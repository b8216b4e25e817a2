import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from shortlist import _native
from shortlist.engine.noise import MAX_NOISE, gumbel_noise, random_bits

seeds = st.integers(0, 2**64 - 1)
positions = st.integers(0, 2**31 - 1)


def test_bits_are_pinned():
    # A seed must give the same text in every later version.
    bits = random_bits(seed=1, position=2, rows=np.array([0, 1, 262_143]))
    assert [int(b) for b in bits] == [4472672866095287216, 18350930453655145887, 10793273565670019803]


@given(seeds, positions)
def test_the_native_twin_agrees(seed, position):
    rows = np.array([0, 1, 77, 2**31 - 1], dtype=np.int32)
    # The integers are the same; the logarithms may differ in the last bit.
    np.testing.assert_array_max_ulp(
        _native.gumbel_noise(seed, position, rows), gumbel_noise(seed, position, rows), maxulp=2
    )


@given(seeds, positions)
def test_a_row_does_not_depend_on_its_company(seed, position):
    rows = np.arange(100)
    together = gumbel_noise(seed, position, rows)
    alone = [gumbel_noise(seed, position, rows[i : i + 1])[0] for i in (0, 57, 99)]
    assert alone == [together[0], together[57], together[99]]


@given(seeds, positions)
def test_never_above_the_stated_maximum(seed, position):
    noise = gumbel_noise(seed, position, np.arange(1000))
    assert noise.dtype == np.float32
    assert np.all(noise <= MAX_NOISE)
    assert np.all(noise > -2.9)


def test_extreme_bits_stay_within_the_maximum():
    greatest = 1 - 2.0**-25
    assert -np.log(-np.log(greatest)) < MAX_NOISE


def test_is_standard_gumbel():
    noise = gumbel_noise(7, 3, np.arange(200_000))
    assert abs(noise.mean() - np.euler_gamma) < 0.01
    assert abs(noise.var() - np.pi**2 / 6) < 0.02


def test_streams_of_neighbouring_positions_and_seeds_are_unrelated():
    rows = np.arange(100_000)
    base = gumbel_noise(7, 3, rows)
    for other in (gumbel_noise(7, 4, rows), gumbel_noise(8, 3, rows), gumbel_noise(7, 3, rows + 1)):
        assert abs(np.corrcoef(base, other)[0, 1]) < 0.02
