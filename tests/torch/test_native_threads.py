"""Native work on PyTorch's threads."""

import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import torch

from shortlist import _native
from shortlist.torch import Experts, MoE, SoftmaxTopK
from shortlist.torch.native_threads import torch_workers

FORK = """
import os, numpy as np, torch
from shortlist.torch import Experts, MoE, SoftmaxTopK
torch.set_num_threads(2)
moe, x = MoE(SoftmaxTopK(16, 4), Experts(4, 16, 40)), torch.randn(50, 16)
with torch.no_grad():
    expected = moe(x)
    if child := os.fork():
        _, status = os.waitpid(child, 0)
        assert torch.equal(moe(x), expected)
        raise SystemExit(os.waitstatus_to_exitcode(status))
    segments = moe.dispatcher.dispatch(x, moe.routing)  # PyTorch's own parallel parts would hang in a child
    from shortlist import _native
    rows = _native.Rows.pack(np.ones(512 * 64, np.float32).view(np.uint8), "F32", 512, 64)
    pooled = (rows.matvec(np.ones(64, np.float32)) == 64).all()
    os._exit(not (pooled and torch.allclose(moe.experts(segments), expected)))
"""


def test_as_many_threads_as_pytorch():
    before = torch.get_num_threads()
    try:
        for threads in (1, 2):
            torch.set_num_threads(threads)
            with torch_workers():
                assert _native.hold_pool(0)[1] == torch_workers().threads == threads
    finally:
        torch.set_num_threads(before)


def test_layers_in_several_threads_at_once():
    torch.manual_seed(0)
    moe, x = MoE(SoftmaxTopK(16, 4), Experts(4, 16, 40)), torch.randn(300, 16)
    expected = moe(x).detach()

    def work(_) -> bool:
        with torch.no_grad():
            return torch.equal(moe(x), expected)

    with ThreadPoolExecutor(4) as pool:
        assert all(pool.map(work, range(40)))


def test_a_forked_child_computes_on():
    done = subprocess.run([sys.executable, "-c", FORK], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
