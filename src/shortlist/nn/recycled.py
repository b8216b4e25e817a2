"""Memory that is used again once nobody holds it.

The system hands out fresh memory page by page, each cleared first: for the gradients of all experts that
takes longer than writing them. What one training step frees, the next one needs again.
"""

import weakref
from collections import defaultdict

import torch
from torch import Tensor


class Recycled:
    """Hands out float32 tensors on CPU, in memory of earlier ones of the same shape that are gone."""

    def __init__(self):
        self._free: dict[tuple[int, ...], list[Tensor]] = defaultdict(list)

    def empty(self, *shape: int) -> Tensor:
        """A tensor of that shape whose values are arbitrary. Its memory comes back with its last view."""
        free = self._free[shape]
        block = free.pop() if free else torch.empty(shape, dtype=torch.float32)
        array = block.numpy()  # an object of its own: the tensor made of it keeps it alive
        weakref.finalize(array, free.append, block).atexit = False
        return torch.from_numpy(array)

    def __getstate__(self) -> dict:
        return {}  # a copy starts with none

    def __setstate__(self, state: dict) -> None:
        self.__init__()
