"""Two processes that train together, for the tests: each runs a function with its rank."""

import os
import socket
from datetime import timedelta

import torch
import torch.distributed as dist
import torch.multiprocessing as mp


def run_two(function) -> None:
    """Run `function(rank)` of a module in two processes that `torch.distributed` joins."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    mp.spawn(_begin, (function, port), nprocs=2)  # pyright: ignore[reportPrivateImportUsage]


def _begin(rank: int, function, port: int) -> None:
    os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    torch.set_num_threads(1)
    dist.init_process_group("gloo", rank=rank, world_size=2, timeout=timedelta(seconds=60))
    try:
        function(rank)
    finally:
        dist.destroy_process_group()


def assert_equal_everywhere(tensor: torch.Tensor) -> None:
    """The same on both ranks."""
    both = [torch.zeros_like(tensor) for _ in range(2)]
    dist.all_gather(both, tensor.detach().contiguous())
    torch.testing.assert_close(both[0], both[1], rtol=0, atol=0)
