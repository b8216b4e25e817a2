"""Sparse-CBM (s1-9): digits through a bottleneck of 128 concepts, few of which are on, and a linear head.

Concepts are the units of a gate on the pixels: `gumbel` turns 12 on, `l1` as many as its loss lets. The head
sees their weights alone. Beside them a dense linear head on the same pixels. Means over seeds of the accuracy
on a quarter of scikit-learn's digits. Exits with 1 where a bottleneck is more than a point behind the dense
head, or turns more than a tenth of its concepts on.

    .venv/bin/python lab/systems/s1_9_bottleneck.py
"""

import argparse
import sys
from collections.abc import Callable

import torch
from criteria import print_criteria
from small_mixtures import Digits
from torch import Tensor, nn
from torch.nn import functional as F

from shortlist.torch.gates import L1, Gate, Gumbel

CONCEPTS, SEEDS, STEPS, L1_WEIGHT = 128, 3, 800, 0.005


class Bottleneck(nn.Module):
    """Classes from the weights of the concepts that are on."""

    def __init__(self, gate: Gate):
        super().__init__()
        self.gate = gate
        self.head = nn.Linear(gate.experts, Digits.classes)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor, float]:
        """Logits, the auxiliary loss to be added, and the share of concepts that are on."""
        routing = self.gate(x)
        extra = L1_WEIGHT * routing.losses.get("l1", torch.zeros(()))
        return self.head(routing.dense()), extra, routing.active.item() / CONCEPTS


class Dense(nn.Module):
    """The linear head on the pixels themselves."""

    def __init__(self):
        super().__init__()
        self.head = nn.Linear(64, Digits.classes)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor, float]:
        return self.head(x), torch.zeros(()), 1.0


def main() -> None:
    argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter).parse_args()
    torch.set_num_threads(1)
    makers: dict[str, Callable[[], nn.Module]] = {
        "dense": Dense,
        "gumbel": lambda: Bottleneck(Gumbel(64, CONCEPTS, 12)),
        "l1": lambda: Bottleneck(L1(64, CONCEPTS)),
    }
    accuracies, shares = {}, {}
    print("| head | accuracy | worst seed | concepts on |\n| --- | ---: | ---: | ---: |")
    for name, make in makers.items():
        runs = torch.tensor([train(make, seed) for seed in range(SEEDS)])
        accuracies[name], shares[name] = runs.mean(0).tolist()
        print(
            f"| {name} | {accuracies[name]:.4f} | {runs[:, 0].min():.4f} | {shares[name]:.2%} |", flush=True
        )
    met = print_criteria(
        [
            row
            for name in ("gumbel", "l1")
            for row in (
                (
                    f"{name}: behind the dense head",
                    accuracies["dense"] - accuracies[name],
                    accuracies["dense"] - accuracies[name] <= 0.01,
                    "0.01",
                ),
                (f"{name}: concepts on", shares[name], shares[name] <= 0.1, "0.1"),
            )
        ]
    )
    sys.exit(not met)


def train(make: Callable[[], nn.Module], seed: int) -> tuple[float, float]:
    """Accuracy on the digits that were kept apart, and the share of concepts that are on there."""
    torch.manual_seed(seed)
    generator = torch.Generator().manual_seed(seed)
    task, model = Digits(), make()
    optimizer = torch.optim.Adam(model.parameters(), lr=3e-3)
    for step in range(STEPS):
        for gate in (module for module in model.modules() if isinstance(module, Gate)):
            gate.progress = step / STEPS
        x, y = task.batch(generator)
        logits, extra, _ = model(x)
        optimizer.zero_grad()
        (F.cross_entropy(logits, y) + extra).backward()
        optimizer.step()
    model.eval()
    with torch.no_grad():
        logits, _, share = model(task.test_x)
    return (logits.argmax(-1) == task.test_y).float().mean().item(), share


if __name__ == "__main__":
    main()
