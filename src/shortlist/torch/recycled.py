"""Memory that is used again once nobody holds it.

The system hands out fresh memory page by page, each cleared first: for the gradients of all experts that
takes longer than writing them. What one training step frees, the next one needs again.
"""

import math
import weakref

import torch
from torch import Tensor

SMALL = 1 << 15  # fewer values come from the allocator, which has them at hand


class Recycled:
    """Hands out float32 tensors on CPU, in memory of earlier ones that are gone.

    Parameters
    ----------
    blocks
        How many that nobody holds are kept, the last ones: what more there are goes back to the system.
    """

    def __init__(self, blocks: int = 0):
        self._blocks = blocks
        self._free: dict[int, Tensor] = {}  # by address, in the order in which they came back

    def make_room(self, owner: object, blocks: int) -> None:
        """So many blocks more are kept while the owner lives."""
        self._blocks += blocks
        weakref.finalize(owner, self._shrink, blocks).atexit = False

    def empty(self, *shape: int) -> Tensor:
        """A tensor of that shape whose values are arbitrary. Its memory comes back with its last view."""
        count = math.prod(shape)
        if count < SMALL:
            return torch.empty(shape)
        fitting = [(len(block), at) for at, block in list(self._free.items()) if len(block) >= count]
        block = self._free.pop(min(fitting)[1], None) if fitting else None
        if block is None:
            block = torch.empty(count)
        array = block.numpy()[:count].reshape(
            shape
        )  # an object of its own: the tensor made of it keeps it alive
        weakref.finalize(array, self._take_back, block).atexit = False
        return torch.from_numpy(array)

    def _take_back(self, block: Tensor) -> None:
        self._free[block.data_ptr()] = block
        self._trim()

    def _shrink(self, blocks: int) -> None:
        self._blocks -= blocks
        self._trim()

    def _trim(self) -> None:
        for at in list(self._free)[: max(len(self._free) - self._blocks, 0)]:
            self._free.pop(at, None)
