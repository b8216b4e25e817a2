"""The native kernels on PyTorch's own threads.

Between two parallel parts of a program the threads of an OpenMP runtime spin for a while. A second set of
threads would have to share the processors with them: a token's experts then take three times as long.
"""

import ctypes
from pathlib import Path

import torch

from shortlist import _native


def match_threads() -> None:
    """To be called before native work: as many threads as PyTorch uses."""
    _native.set_threads(torch.get_num_threads())


def _borrow() -> None:
    try:
        library = ctypes.CDLL(str(Path(torch.__file__).parent / "lib" / "libtorch_cpu.so"))
        functions = (library.GOMP_parallel, library.omp_get_num_threads)
    except (OSError, AttributeError):  # another system's library, or another OpenMP
        return
    _native.borrow_openmp(*(ctypes.cast(function, ctypes.c_void_p).value or 0 for function in functions))


_borrow()
