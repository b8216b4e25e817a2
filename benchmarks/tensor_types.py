"""How fast each tensor type is read: products of one vector with a matrix larger than the caches.

Beside the machine's read bandwidth and, where llama-cpp-python is installed, beside the dot product of its
ggml library over the same bytes, row by row (llama.cpp repacks some types when it loads them). Types and
libraries take turns, and the best of all rounds counts, so that other programs disturb little. `packed` is
the size in memory relative to the file. GB/s count the bytes that are read in memory; `file` counts
those of the file, in which both libraries can be compared.

    .venv/bin/python benchmarks/tensor_types.py [--megabytes 256] [--rounds 8] [--types Q3_K MXFP4]

Takes about three minutes. Exits with 1 where a type is below both 85 % of the bandwidth and ggml's speed.
"""

import argparse
import ctypes
import importlib.util
import mmap
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import gguf
import numpy as np

from shortlist import _native
from shortlist.checkpoints.base import TYPES
from shortlist.measure.random_blocks import random_rows

COLUMNS = 4096
GGML_COLUMNS = 1 << 18  # long rows, so that calling from Python costs little
LEAST = 0.85


class Ggml:
    """Dot products of llama.cpp's library."""

    class Traits(ctypes.Structure):
        _fields_ = (
            ("from_float", ctypes.CFUNCTYPE(None, ctypes.c_void_p, ctypes.c_void_p, ctypes.c_int64)),
            (
                "vec_dot",
                ctypes.CFUNCTYPE(
                    None,
                    ctypes.c_int,
                    ctypes.c_void_p,
                    ctypes.c_size_t,
                    ctypes.c_void_p,
                    ctypes.c_size_t,
                    ctypes.c_void_p,
                    ctypes.c_size_t,
                    ctypes.c_int,
                ),
            ),
            ("vec_dot_type", ctypes.c_int),
            ("nrows", ctypes.c_int64),
        )

    def __init__(self, folder: Path):
        base = ctypes.CDLL(str(folder / "libggml-base.so"), ctypes.RTLD_GLOBAL)
        self.library = ctypes.CDLL(str(folder / "libggml-cpu.so"))
        self.library.ggml_cpu_init()
        self.library.ggml_get_type_traits_cpu.restype = ctypes.POINTER(self.Traits)
        self.base = base

    def product(
        self, kind: gguf.GGMLQuantizationType, data: np.ndarray, x: np.ndarray, threads: int
    ) -> Callable[[], float]:
        """Seconds of one product with all rows of `data`, without what calling from Python takes."""
        traits = self.library.ggml_get_type_traits_cpu(int(kind)).contents
        vector_type = gguf.GGMLQuantizationType(traits.vec_dot_type)
        block, size = gguf.GGML_QUANT_SIZES[vector_type]
        query = np.zeros(GGML_COLUMNS // block * size, np.uint8)
        self.library.ggml_get_type_traits_cpu(int(vector_type)).contents.from_float(
            x.ctypes.data, query.ctypes.data, GGML_COLUMNS
        )
        row = GGML_COLUMNS // TYPES[kind.name].weights * TYPES[kind.name].bytes
        starts = range(data.ctypes.data, data.ctypes.data + data.nbytes, row)

        def some(columns: int, member: int) -> None:
            out = ctypes.c_float()
            for start in starts[member::threads]:
                traits.vec_dot(columns, ctypes.addressof(out), 0, start, 0, query.ctypes.data, 0, 1)

        pool = ThreadPoolExecutor(threads)

        def once(columns: int) -> float:
            began = time.perf_counter()
            list(pool.map(lambda member: some(columns, member), range(threads)))
            return time.perf_counter() - began

        return lambda: once(GGML_COLUMNS) - once(256)


def find_ggml() -> Ggml | None:
    found = importlib.util.find_spec("llama_cpp")
    if found is None or found.origin is None:
        return None
    return Ggml(Path(found.origin).parent / "lib")


def on_huge_pages(data: np.ndarray) -> np.ndarray:
    """A copy on pages like those that native rows lie on."""
    memory = mmap.mmap(-1, data.nbytes)
    if hasattr(mmap, "MADV_HUGEPAGE"):
        memory.madvise(mmap.MADV_HUGEPAGE)
    copy = np.frombuffer(memory, np.uint8)
    copy[:] = data
    return copy


def ours(rows: _native.Rows, x: np.ndarray) -> Callable[[], float]:
    def once() -> float:
        began = time.perf_counter()
        rows.matvec(x)
        return time.perf_counter() - began

    return once


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    quantized = [kind.name for kind in TYPES.values() if kind.quantized and kind.number is not None]
    parser.add_argument("--megabytes", type=int, default=256)
    parser.add_argument("--rounds", type=int, default=8)
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--types", nargs="+", default=quantized, choices=quantized)
    options = parser.parse_args()
    ggml = find_ggml()
    rng = np.random.default_rng(0)
    x = rng.normal(size=GGML_COLUMNS).astype(np.float32)
    slow = []
    print(f"instruction set {_native.isa()}, {options.megabytes} MB a matrix, best of {options.rounds}\n")
    print("| type | threads | packed | GB/s | of the bandwidth | file GB/s | ggml GB/s | ours / ggml |")
    print("| --- | --- | --- | --- | --- | --- | --- | --- |")
    for name in options.types:
        kind, record = gguf.GGMLQuantizationType[name], TYPES[name]
        row = GGML_COLUMNS // record.weights * record.bytes
        count = max(2, (options.megabytes << 20) // row)
        data = on_huge_pages(random_rows(rng, count, GGML_COLUMNS, kind).reshape(-1))
        packed = _native.Rows.pack(data, name, count * GGML_COLUMNS // COLUMNS, COLUMNS, tiled=True)
        for threads in options.threads:
            packed.threads = threads
            _native.set_threads(threads)
            timed = [ours(packed, x[:COLUMNS])]
            if ggml:
                timed.append(ggml.product(kind, data, x, threads))
            best, bandwidth = [np.inf] * len(timed), 0.0
            for _ in range(options.rounds):
                bandwidth = max(bandwidth, _native.read_bandwidth_gb_s(options.megabytes, 1))
                best = [min(least, once()) for least, once in zip(best, timed, strict=True)]
            speed, share = packed.nbytes / best[0] / 1e9, packed.nbytes / best[0] / 1e9 / bandwidth
            ratio = best[1] / best[0] if ggml else np.nan
            theirs = data.nbytes / best[-1] / 1e9 if ggml else np.nan
            print(
                f"| {name} | {threads} | {packed.nbytes / data.nbytes:.3f} | {speed:.1f} | {share:.2f} | "
                f"{data.nbytes / best[0] / 1e9:.1f} | {theirs:.1f} | {ratio:.2f} |",
                flush=True,
            )
            if share < LEAST and not ratio >= 1:
                slow.append(f"{name} with {threads} threads")
    if slow:
        sys.exit("below 85 % of the bandwidth and below ggml: " + ", ".join(slow))


if __name__ == "__main__":
    main()
