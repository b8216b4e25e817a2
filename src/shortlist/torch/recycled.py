"""Memory that is reused once nobody holds it.

The operating system clears fresh memory page by page. For the gradients of all experts that takes longer
than writing them. Each training step needs the same memory that the step before freed.
"""

import math
import weakref

import torch
from torch import Tensor

SMALL = 1 << 15  # smaller tensors come from the allocator, which reuses memory itself


class Recycled:
    """Allocates float32 tensors on the CPU, in the memory of earlier tensors that were freed.

    Parameters
    ----------
    blocks
        The number of free blocks that are kept, the latest ones. Others go back to the operating system.
    """

    def __init__(self, blocks: int = 0):
        self._blocks = blocks
        self._free: dict[int, Tensor] = {}  # by address, in the order in which they were freed

    def make_room(self, owner: object, blocks: int) -> None:
        """Keep this many more free blocks for as long as the owner lives."""
        self._blocks += blocks
        weakref.finalize(owner, self._shrink, blocks).atexit = False

    def empty(self, *shape: int) -> Tensor:
        """A tensor of this shape with arbitrary values. Its memory is freed with its last view."""
        count = math.prod(shape)
        if count < SMALL:
            return torch.empty(shape)
        fitting = [(len(block), at) for at, block in list(self._free.items()) if len(block) >= count]
        block = self._free.pop(min(fitting)[1], None) if fitting else None
        if block is None:
            block = torch.empty(count)
        array = block.numpy()[:count].reshape(
            shape
        )  # a separate object, which the tensor that is made from it keeps alive
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
