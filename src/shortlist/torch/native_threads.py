"""Runs the native kernels on PyTorch's own threads.

The threads of an OpenMP runtime spin for a while after each parallel region. A second set of threads would
compete with them for the cores: a token's experts then take three times as long.
"""

import ctypes
from functools import cache
from pathlib import Path

import torch

from shortlist import _native


def torch_workers() -> _native.Workers:
    """PyTorch's threads, as a context manager for native calls, in the number that PyTorch uses.

    Where PyTorch's OpenMP runtime is not GCC's: the threads of the native pool.
    """
    return _native.Workers(torch.get_num_threads(), *_openmp())


@cache
def _openmp() -> tuple[int, ...]:
    """Addresses of the OpenMP functions that start a team of threads and that give its size."""
    try:
        library = ctypes.CDLL(str(Path(torch.__file__).parent / "lib" / "libtorch_cpu.so"))
        functions = (library.GOMP_parallel, library.omp_get_num_threads)
    except (OSError, AttributeError):  # another platform, or another OpenMP runtime
        return ()
    return tuple(ctypes.cast(function, ctypes.c_void_p).value or 0 for function in functions)
