"""Gumbel noise from a counter, so that one row's noise can be computed without that of the others.

The noise of a row depends on nothing but `(seed, position, row)`. That is what makes a shortlisted draw able
to equal the dense one: `argmax(logit / temperature + noise)` is a draw from the softmax (Gumbel 1954;
Maddison et al., https://arxiv.org/abs/1411.0030), and both draws see the same noise on the rows that they
look at.

The generator is splitmix64 (Steele et al., OOPSLA 2014): `seed` and `position` are mixed to the start of a
stream and `row` counts within it. `shortlist._native.gumbel_noise` computes the same integers; this file is
its definition.
"""

import numpy as np

GOLDEN = np.uint64(0x9E3779B97F4A7C15)

# Noise is between these: -log(-log(2**-25)) = -2.853 and -log(-log(1 - 2**-25)) = 17.329, rounded outwards.
MIN_NOISE, MAX_NOISE = -2.86, 17.33


def mix(z: np.ndarray) -> np.ndarray:
    """Spread the bits of each number over all 64 (the finaliser of splitmix64).

    Parameters
    ----------
    z : uint64 [...]
    """
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return z ^ (z >> np.uint64(31))


def random_bits(seed: int, position: int, rows: np.ndarray) -> np.ndarray:
    """64 random bits for each row.

    Parameters
    ----------
    seed, position : int
        0 <= seed < 2**64; position of the token in the sequence, from 0.
    rows : int [n]

    Returns
    -------
    uint64 [n]
    """
    with np.errstate(over="ignore"):  # arithmetic modulo 2**64 is meant
        start = mix(mix(np.array([seed], dtype=np.uint64) + GOLDEN) + GOLDEN * np.uint64(position + 1))
        return mix(start + GOLDEN * (np.asarray(rows).astype(np.uint64) + np.uint64(1)))


def gumbel_noise(seed: int, position: int, rows: np.ndarray) -> np.ndarray:
    """Standard Gumbel noise for each row: the readable twin of `shortlist._native.gumbel_noise`.

    Parameters
    ----------
    seed, position, rows
        As for `random_bits`.

    Returns
    -------
    float32 [n], between `MIN_NOISE` and `MAX_NOISE`
    """
    uniform = ((random_bits(seed, position, rows) >> np.uint64(40)).astype(np.float64) + 0.5) * 2.0**-24
    return (-np.log(-np.log(uniform))).astype(np.float32)


def contenders(
    seed: int, position: int, rows: np.ndarray, upper: np.ndarray, floor: float, lowest: float
) -> tuple[np.ndarray, np.ndarray]:
    """Rows that noise can lift to a floor: the readable twin of `shortlist._native.contenders`.

    The native one compares the random bits first, which spares most rows two logarithms.

    Parameters
    ----------
    seed, position, rows
        As for `random_bits`.
    upper : float64 [n]
        Values of `rows`, or bounds that they do not exceed.
    floor, lowest : float

    Returns
    -------
    places : int64 [m]
        Where `upper` is at least `lowest`, and plus the row's noise at least `floor`, ascending.
    noise : float64 [m]
        Of those rows.
    """
    noise = gumbel_noise(seed, position, rows).astype(np.float64)
    places = np.flatnonzero((upper + noise >= floor) & (upper >= lowest))
    return places, noise[places]
