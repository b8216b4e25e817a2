"""Random quantized weights of every tensor type that GGUF files hold."""

import functools

import gguf
import numpy as np

from shortlist.checkpoints.base import TYPES

FACTORS: dict[str, dict[int, float]] = {
    "Q4_0": {0: 1.0},
    "Q4_1": {0: 1.0, 2: -7.5},
    "Q5_0": {0: 1.0},
    "Q5_1": {0: 1.0, 2: -15.5},
    "Q8_0": {0: 1.0},
    "Q2_K": {80: 1.0, 82: 1.5},
    "Q3_K": {108: 1.0},
    "Q4_K": {0: 1.0, 2: 7.5},
    "Q5_K": {0: 1.0, 2: 15.5},
    "Q6_K": {208: 1.0},
    "IQ4_NL": {0: 1.0},
    "IQ4_XS": {0: 1.0},
}
"""Where the float16 numbers of a block are, in units of the first: minima such that random codes have mean 0.

Every byte beside them may be anything. A block of MXFP4 has a power of two in its first byte instead.
"""


def random_rows(
    rng: np.random.Generator, rows: int, columns: int, kind: gguf.GGMLQuantizationType
) -> np.ndarray:
    """Quantized blocks, uint8 [rows, row_bytes], of weights with mean 0 and deviation columns ** -0.5.

    So a product with a normed input has deviation 1 and nothing overflows, whatever the depth. The codes are
    uniform; the sign of the scale is random too, because the codes of Q4_0 run from -8 to 7 and their mean is
    not 0. Scales of MXFP4 are powers of two: its deviation is the next one below.
    """
    record = TYPES[kind.name]
    blocks = rows * columns // record.weights
    signs = rng.integers(0, 2, blocks) * 2.0 - 1.0
    data = _random_codes(rng, kind, blocks)
    _set_scale(data, kind, signs * columns**-0.5 / _spread(kind))
    return data.reshape(rows, -1)


def _random_codes(rng: np.random.Generator, kind: gguf.GGMLQuantizationType, blocks: int) -> np.ndarray:
    """Blocks [blocks, bytes] without their float16 numbers, or their power of two."""
    size = TYPES[kind.name].bytes
    scales = sorted(at + i for at in FACTORS.get(kind.name, {}) for i in range(2)) or [0]
    codes = np.frombuffer(rng.bytes(blocks * (size - len(scales))), np.uint8)
    data = np.zeros((blocks, size), np.uint8)
    data[:, np.setdiff1d(np.arange(size), scales)] = codes.reshape(blocks, -1)
    return data


def _set_scale(data: np.ndarray, kind: gguf.GGMLQuantizationType, scale: np.ndarray) -> None:
    if kind.name == "MXFP4":
        data[:, 0] = np.floor(np.log2(np.abs(scale))) + 128
    for at, factor in FACTORS.get(kind.name, {}).items():
        data[:, at : at + 2] = (factor * scale).astype("<f2")[:, None].view(np.uint8)


@functools.cache
def _spread(kind: gguf.GGMLQuantizationType) -> float:
    """Deviation of the values of a block whose scale is 1."""
    record = TYPES[kind.name]
    if record.weights == 32 and record.scale == "f16" and not record.looked_up:  # of uniform codes
        return np.sqrt((4**record.bits - 1) / 12 + (0 if record.minimum else 0.5**2))
    rng = np.random.default_rng(0)
    sample = _random_codes(rng, kind, 4096)
    _set_scale(sample, kind, rng.integers(0, 2, len(sample)) * 2.0 - 1.0)
    return float(gguf.quants.dequantize(sample, kind).std())
