"""The native kernels on PyTorch's own threads.

Between two parallel parts of a program the threads of an OpenMP runtime spin for a while. A second set of
threads would have to share the processors with them: a token's experts then take three times as long.
"""

import ctypes
from functools import cache
from pathlib import Path

import torch

from shortlist import _native


def torch_workers() -> _native.Workers:
    """For a `with` statement around native calls: PyTorch's threads, as many as it uses.

    Those of the native pool, where PyTorch's OpenMP is not GCC's.
    """
    return _native.Workers(torch.get_num_threads(), *_openmp())


@cache
def _openmp() -> tuple[int, ...]:
    """Addresses of what starts a team of OpenMP's threads, and of what says how many they are."""
    try:
        library = ctypes.CDLL(str(Path(torch.__file__).parent / "lib" / "libtorch_cpu.so"))
        functions = (library.GOMP_parallel, library.omp_get_num_threads)
    except (OSError, AttributeError):  # another system's library, or another OpenMP
        return ()
    return tuple(ctypes.cast(function, ctypes.c_void_p).value or 0 for function in functions)
