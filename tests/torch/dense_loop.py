"""Layers whose routing is told, and their definition: what every fast form is compared with."""

import torch

from shortlist.torch import Experts, Routing, UnequalExperts
from shortlist.torch.gates import Gate


class Fixed(Gate):
    """Routes as it is told."""

    def __init__(self, width: int, mask: torch.Tensor):
        super().__init__(width, mask.shape[1])
        self.mask = mask
        self.weights = torch.nn.Parameter(torch.rand(mask.shape, dtype=torch.float64))

    def estimate(self, x):
        return self.weights.to(x.dtype)

    def select(self, scores):
        return Routing.of_mask(scores, self.mask)


def experts_of(sizes: list[int], activation="silu", gated=True, width=6):
    if len(set(sizes)) == 1:
        return Experts(len(sizes), width, sizes[0], activation, gated)
    return UnequalExperts(width, sizes, activation, gated)


def gradients(moe, x, function) -> dict[str, torch.Tensor]:
    moe.zero_grad()
    x = x.clone().requires_grad_()
    y = function(x)
    (y * torch.linspace(-1, 1, y.numel(), dtype=y.dtype).view(y.shape)).sum().backward()
    return {"y": y, "x": x.grad} | {name: p.grad for name, p in moe.named_parameters()}


def mask_of(load: list[int]) -> torch.Tensor:
    """So many tokens of each expert, drawn from as many as the most of them: bool [tokens, experts]."""
    tokens = max(load)
    if not tokens:
        return torch.zeros(0, len(load)) > 0
    return torch.stack([torch.randperm(tokens) < count for count in load], 1)


def assert_is_dense_loop(moe, x, **tolerance):
    found, expected = gradients(moe, x, moe), gradients(moe, x, moe.reference)
    assert found.keys() == expected.keys()
    for name in expected:
        torch.testing.assert_close(
            found[name], expected[name], msg=lambda m, name=name: f"{name}: {m}", **tolerance
        )
    with torch.no_grad():
        torch.testing.assert_close(moe(x), expected["y"], **tolerance)
