"""Rotary position embedding as checkpoints describe it, reduced to the angles that the decoder needs.

RoPE: Su et al. 2021, https://arxiv.org/abs/2104.09864.
"""

import math
from typing import NamedTuple

import numpy as np

Frequencies = tuple[float, ...]


class Rotation(NamedTuple):
    """How a layer turns queries and keys: by which angles a position, and what it multiplies them by."""

    frequencies: Frequencies
    scale: float = 1.0


def plain(base: float, head_dim: int) -> Frequencies:
    """`base ** (-2 i / head_dim)` for the `head_dim / 2` pairs of a head."""
    return tuple((base ** -(np.arange(0, head_dim, 2) / head_dim)).tolist())


def linear(frequencies: Frequencies, factor: float) -> Frequencies:
    """Positions squeezed by `factor` (Chen et al. 2023, https://arxiv.org/abs/2306.15595)."""
    return tuple(f / factor for f in frequencies)


def divided(frequencies: Frequencies, factors: np.ndarray) -> Frequencies:
    """Each frequency divided by its own factor [head_dim / 2]; GGUF stores them as `rope_freqs`."""
    return tuple((np.asarray(frequencies) / factors).tolist())


def llama3(
    frequencies: Frequencies,
    factor: float,
    low_freq_factor: float,
    high_freq_factor: float,
    original_context: float,
) -> Frequencies:
    """Slow pairs squeezed by `factor`, fast ones kept, a linear passage between (Llama 3.1).

    A pair is fast when it turns more than `high_freq_factor` times within `original_context` positions, slow
    when less than `low_freq_factor` times.
    """

    def scaled(frequency: float) -> float:
        turns = original_context * frequency / (2 * math.pi)
        share = (turns - low_freq_factor) / (high_freq_factor - low_freq_factor)
        kept = min(max(share, 0.0), 1.0)
        return kept * frequency + (1 - kept) * frequency / factor

    return tuple(scaled(f) for f in frequencies)


def yarn(
    frequencies: Frequencies,
    factor: float,
    original_context: float,
    *,
    base: float,
    beta_fast: float = 32.0,
    beta_slow: float = 1.0,
    truncate: bool = True,
) -> Frequencies:
    """Slow pairs squeezed by `factor`, fast ones kept, a passage by the number of the pair between (YaRN).

    A pair is fast when it turns more than `beta_fast` times within `original_context` positions, slow when
    less than `beta_slow` times. With `truncate` the passage begins and ends at whole pairs. Peng et al. 2023,
    https://arxiv.org/abs/2309.00071; queries and keys are also multiplied, by `yarn_attention_factor`.
    """
    pairs = len(frequencies)

    def pair_that_turns(times: float) -> float:
        return pairs * math.log(original_context / (times * 2 * math.pi)) / math.log(base)

    first, last = pair_that_turns(beta_fast), pair_that_turns(beta_slow)
    if truncate:
        first, last = math.floor(first), math.ceil(last)
    first, last = max(first, 0), min(last, 2 * pairs - 1)
    # Where the passage has no length a pair on its end is kept, and the next one squeezed.
    shares = np.clip((np.arange(pairs) - first) / ((last - first) or 0.001), 0, 1)
    plain_ones = np.asarray(frequencies)
    return tuple((plain_ones / factor * shares + plain_ones * (1 - shares)).tolist())


def yarn_attention_factor(factor: float, mscale: float = 0.0, mscale_all_dim: float = 0.0) -> float:
    """What queries and keys are multiplied by: the entropy of attention grows with the context (YaRN)."""

    def scaled(by: float) -> float:
        return 0.1 * by * math.log(factor) + 1.0 if factor > 1 else 1.0

    return scaled(mscale) / scaled(mscale_all_dim) if mscale and mscale_all_dim else scaled(1.0)
