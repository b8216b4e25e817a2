"""Rotary position embedding as checkpoints describe it, reduced to the angles that the decoder needs.

RoPE: Su et al. 2021, https://arxiv.org/abs/2104.09864.
"""

import math

import numpy as np

Frequencies = tuple[float, ...]


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
