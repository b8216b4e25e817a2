"""Lines of metrics."""

import pytest
import torch
from torch import nn

from shortlist.torch import Experts, MoE, SoftmaxTopK
from shortlist.torch.train import metrics


def test_lines_are_added_read_and_forgotten(tmp_path):
    assert metrics.read(tmp_path) == []
    lines = [{"step": step, "loss": step / 3} for step in (1, 2, 3)]
    for line in lines:
        metrics.append(tmp_path, line)
    assert metrics.read(tmp_path) == lines
    metrics.forget_after(tmp_path, 2)
    assert metrics.read(tmp_path) == lines[:2]


def test_how_experts_are_used():
    layer = MoE(SoftmaxTopK(2, 4, k=2), Experts(4, 2, 3))
    with torch.no_grad():
        layer.gate.router.weight.copy_(torch.tensor([[1.0, 0], [1.0, 0], [-1.0, 0], [-1.0, 0]]))
    layer(torch.tensor([[9.0, 0], [9.0, 0], [9.0, 0], [-9.0, 0]]))
    (stats,) = metrics.expert_stats(nn.ModuleList([layer, nn.Linear(1, 1)]))
    assert stats["load"] == [0.375, 0.375, 0.125, 0.125]
    assert stats["active"] == 2
    assert stats["effective"] == pytest.approx(2, abs=1e-3)
