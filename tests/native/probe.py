"""Runs every kernel on awkward sizes and writes inputs and results to an .npz file.

A process takes one instruction set (SHORTLIST_ISA) for its lifetime: the tests run this file once for each.

    python probe.py OUTPUT.npz
"""

import sys

import gguf
import numpy as np

from shortlist import _native

TYPES = tuple(t.name for t in _native.tensor_types() if t.number is not None)
BY_CHANNEL = tuple(kind for kind in TYPES if kind not in ("Q2_K", "Q3_K", "IQ4_NL", "IQ4_XS", "MXFP4"))
"""Types that can be stored by input channel."""
ROWS = 37  # a whole tile of no instruction set
TOKENS = 13  # blocks of 8, 4 and 1
THRESHOLD = 0.8  # for input channels


def columns(kind: str) -> tuple[int, ...]:
    """Sizes that leave remainders, as far as the type's blocks allow."""
    block = gguf.GGML_QUANT_SIZES[gguf.GGMLQuantizationType[kind]][0]
    return {1: (1, 60, 100), 32: (32, 96, 608), 256: (256, 768)}[block]


CODES = {"Q4_0": (2, 18), "Q4_1": (4, 20), "Q5_0": (2, 22), "Q5_1": (4, 24), "Q8_0": (2, 34)} | {
    "Q2_K": (16, 80),
    "Q3_K": (0, 96),
    "Q4_K": (16, 144),
    "Q5_K": (16, 176),
    "Q6_K": (0, 192),
    "IQ4_NL": (2, 18),
    "IQ4_XS": (8, 136),
    "MXFP4": (1, 17),
}
"""Where the codes of a block are."""

FACTORS = {
    "Q2_K": (80, 82),
    "Q3_K": (108,),
    "Q4_K": (0, 2),
    "Q5_K": (0, 2),
    "Q6_K": (208,),
    "IQ4_NL": (0,),
    "IQ4_XS": (0,),
}
"""Where the float16 numbers of a block are, of types that gguf does not write."""


def with_extremes(kind: str, data: np.ndarray) -> np.ndarray:
    """Two rows of the largest and the smallest codes, whose sums come closest to an overflow."""
    if kind in CODES:
        size = gguf.GGML_QUANT_SIZES[gguf.GGMLQuantizationType[kind]][1]
        blocks = data.reshape(ROWS, -1, size)
        first, last = CODES[kind]
        blocks[6, :, first:last] = 0xFF
        blocks[7, :, first:last] = 0x80 if kind == "Q8_0" else 0
    return data


def random_tensor(kind: str, cols: int, rng: np.random.Generator) -> np.ndarray:
    """Bytes [ROWS, bytes] of a valid random tensor."""
    quantization = gguf.GGMLQuantizationType[kind]
    weights = (0.1 * rng.normal(size=(ROWS, cols))).astype(np.float32)
    weights[3] = 0.0
    weights[5] *= 1e3
    block, size = gguf.GGML_QUANT_SIZES[quantization]
    if kind not in FACTORS:
        data = (
            np.ascontiguousarray(gguf.quants.quantize(weights, quantization)).view(np.uint8).reshape(ROWS, -1)
        )
        if (
            kind == "MXFP4"
        ):  # powers of two far apart, in rows of their own, as the errors of a matrix are compared
            data.reshape(ROWS, -1, size)[9:13, :, 0] = np.array([[0], [1], [2], [3]])
        return data
    data = rng.integers(0, 256, (ROWS, cols // block, size), dtype=np.uint8)
    for at in FACTORS[kind]:
        factors = (0.02 * rng.random((ROWS, cols // block, 1))).astype(np.float16)
        factors[8] = -factors[8]
        factors[9] = 0.0
        data[:, :, at : at + 2] = factors.view(np.uint8)
    return data.reshape(ROWS, -1)


def run(kind: str, cols: int, rng: np.random.Generator) -> dict[str, np.ndarray]:
    """Inputs and results of every product with one matrix."""
    data = with_extremes(kind, random_tensor(kind, cols, rng))
    rows = _native.Rows.pack(data.reshape(-1), kind, ROWS, cols)
    x = rng.normal(size=(TOKENS, cols)).astype(np.float32)
    x[1] = 0.0
    x[2], x[3] = 1.0, -1.0
    some = np.array([36, 0, 5, 3, 17], np.int32)
    coefficients = rng.normal(size=len(some)).astype(np.float32)
    tiled = _native.Rows.pack(data.reshape(-1), kind, ROWS, cols, tiled=True)
    norms = rng.uniform(0.5, 2.0, cols).astype(np.float32)
    by_channel = {}
    if kind in BY_CHANNEL:
        channels = _native.Channels(rows)
        by_channel = {
            "channels/all": np.stack([channels.matvec(v) for v in x]),
            "channels/some": np.stack([channels.matvec(v, THRESHOLD, norms) for v in x]),
        }
    return {
        "data": data,
        "x": x,
        "some": some,
        "coefficients": coefficients,
        "unpacked": rows.unpack(np.arange(ROWS, dtype=np.int32)),
        "matvec": np.stack([rows.matvec(v) for v in x]),
        "matvec_rows": np.stack([rows.matvec_rows(v, some) for v in x]),
        "matmul": rows.matmul(x),
        "axpy": rows.axpy_rows(some, coefficients),
        "norms": norms,
        **by_channel,
        "tiled/unpacked": tiled.unpack(np.arange(ROWS, dtype=np.int32)),
        "tiled/matvec": np.stack([tiled.matvec(v) for v in x]),
        "tiled/matmul": tiled.matmul(x),
    }


LOADS = (1, 0, 2, 3, 4, 5, 8, 9, 17, 33, 300)
"""Rows of groups: of every form that a group's product has."""


def grouped(rng: np.random.Generator) -> dict[str, np.ndarray]:
    """Inputs and results of grouped products."""
    load, rows = np.array(LOADS), rng.integers(0, 20, sum(LOADS))
    weights = rng.normal(size=(len(LOADS), ROWS, 301)).astype(np.float32)
    x, dy = (rng.normal(size=(20, n)).astype(np.float32) for n in (301, ROWS))
    y, dx = (np.empty((len(rows), n), np.float32) for n in (ROWS, 301))
    gradient = np.empty_like(weights)
    _native.grouped_product(weights, x, load, y, rows=rows)
    _native.grouped_product(weights, dy, load, dx, rows=rows, transposed=True)
    _native.grouped_outer(dy, x, load, gradient, left_rows=rows, right_rows=rows)
    return {"rows": rows, "weights": weights, "x": x, "dy": dy, "y": y, "dx": dx, "gradient": gradient}


def main() -> None:
    """Write every result under `kind/columns/name`."""
    rng = np.random.default_rng(0)
    _native.set_threads(2)
    results = {"isa": np.array(_native.isa())}
    for kind in TYPES:
        for cols in columns(kind):
            results |= {f"{kind}/{cols}/{name}": value for name, value in run(kind, cols, rng).items()}
    results |= {f"grouped/{name}": value for name, value in grouped(rng).items()}
    np.savez(sys.argv[1], **results)


if __name__ == "__main__":
    main()
