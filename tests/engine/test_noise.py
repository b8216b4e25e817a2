import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from shortlist import _native
from shortlist.engine.noise import MAX_NOISE, MIN_NOISE, contenders, gumbel_noise, random_bits

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


@settings(max_examples=200)
@given(
    seed=st.integers(0, 2**64 - 1),
    position=st.integers(0, 2**31),
    rows=st.integers(1, 3000),
    spread=st.sampled_from([0.0, 1.0, 20.0]),
    height=st.floats(-25, 25),
    lowest=st.sampled_from([-np.inf, -1.0]),
    threads=st.sampled_from([1, 3]),
)
def test_native_contenders_are_the_definitions(seed, position, rows, spread, height, lowest, threads):
    rng = np.random.default_rng(rows)
    indices = np.sort(rng.choice(2**18, rows, replace=False)).astype(np.int64)
    upper = spread * rng.standard_normal(rows)
    noise = _native.gumbel_noise(seed, position, indices.astype(np.int32)).astype(np.float64)
    before = _native.threads()
    _native.set_threads(threads)
    try:
        # A floor that a row just reaches, and one that it just misses.
        for floor in (height, upper[0] + noise[0], np.nextafter(upper[0] + noise[0], np.inf)):
            places, found = _native.contenders(seed, position, indices, upper, floor, lowest)
            assert np.array_equal(places, np.flatnonzero((upper + noise >= floor) & (upper >= lowest)))
            assert np.array_equal(found, noise[places])
    finally:
        _native.set_threads(before)
    twin_places, twin_noise = contenders(seed, position, indices, upper, height - 1e-9, lowest)
    places, found = _native.contenders(seed, position, indices, upper, height - 1e-9, lowest)
    assert (
        len(np.setxor1d(places, twin_places)) <= 1
    )  # the logarithms of C and NumPy may differ in the last bit
    assert np.allclose(
        found[np.isin(places, twin_places)], twin_noise[np.isin(twin_places, places)], atol=1e-6
    )


def test_the_filter_leaves_out_no_row_that_could_win_and_few_that_could_not():
    """Every step of its table, at its beginning and its end, against the noise itself."""
    end = 2**24
    for step in range(141):
        for need in (step / 8, step / 8 + 1e-9, (step + 1) / 8 - 1e-9):
            least = _native.least_noise_bits(need)
            if least:
                assert _native.noise_of_bits(least - 1) < need
            # What the table knows is the beginning of the step.
            if need > 0 and least < end:
                assert _native.noise_of_bits(min(least + 16, end - 1)) >= min(need, 17.4) - 0.126
    assert _native.least_noise_bits(17.5) == end
    assert _native.least_noise_bits(17.4) < end
    assert [_native.least_noise_bits(need) for need in (0.0, -1.0, -np.inf, np.nan)] == [0, 0, 0, 0]
    assert _native.noise_of_bits(end - 1) < 17.5


def test_the_noise_of_bits_is_the_definitions():
    rows = np.arange(50, dtype=np.int32)
    bits = (random_bits(5, 9, rows) >> np.uint64(40)).tolist()
    assert [_native.noise_of_bits(each) for each in bits] == _native.gumbel_noise(5, 9, rows).tolist()


def test_the_limits_of_the_noise_are_those_of_its_bits():
    least, greatest = _native.noise_of_bits(0), _native.noise_of_bits(2**24 - 1)
    assert MIN_NOISE <= least < MIN_NOISE + 0.01
    assert MAX_NOISE - 0.01 < greatest <= MAX_NOISE


def test_a_row_that_just_reaches_the_floor_and_the_lowest_is_a_contender():
    rows, upper = np.arange(40), np.linspace(-1, 1, 40)
    noise = gumbel_noise(3, 4, rows).astype(np.float64)
    for place in (0, 17, 39):
        floor = upper[place] + noise[place]
        places, found = contenders(3, 4, rows, upper, floor, upper[place])
        assert place in places
        assert found.tolist() == noise[places].tolist()
        for misses in ((np.nextafter(floor, np.inf), upper[place]), (floor, np.nextafter(upper[place], 2))):
            assert place not in contenders(3, 4, rows, upper, *misses)[0]


def test_noise_of_every_size_is_the_native_ones():
    rows = np.arange(2**18, dtype=np.int32)
    np.testing.assert_array_max_ulp(_native.gumbel_noise(11, 7, rows), gumbel_noise(11, 7, rows), maxulp=4)
