"""Magnitude invariant parametrizations (s1-60): when a gate should see states of constant length.

Digits and text, three seeds. What reaches the gate, and the gate alone, is the state times a factor: a
constant, or one drawn for every token from a log-normal distribution of the given spread. Loss with and
without `ConstantNorm` between. It measures a default and has no limit: the table says from which spread on
the wrapper pays.

    .venv/bin/python lab/systems/s1_60_constant_norm.py [--text FILE] [--tasks digits text]
"""

import torch
from small_mixtures import Digits, MakeGate, Text, Training, task_arguments, train
from torch import Tensor

from shortlist.torch.gates import ConstantNorm, Gate, Routing, SoftmaxTopK, Wrapper

SEEDS = 3
FACTORS = [(1.0, 0.0), (8.0, 0.0), (1.0, 1.0), (1.0, 2.0)]  # constant, spread of its logarithm


class Magnified(Wrapper):
    """The states of a stream without norms: their lengths say nothing, and differ."""

    def __init__(self, gate: Gate, factor: float, spread: float):
        super().__init__(gate)
        self.factor, self.spread = factor, spread

    def forward(self, x: Tensor, token_ids: Tensor | None = None) -> Routing:
        lengths = self.factor * (self.spread * torch.randn(len(x), 1)).exp()
        return self.gate(x * lengths, token_ids)


def main() -> None:
    torch.set_num_threads(1)
    arguments = task_arguments(__doc__)
    print("| task | factor | spread | loss | with constant norm | less by | imbalance | with constant norm |")
    print("| --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: |")
    for name in arguments.tasks:
        task, steps = (Digits(), 120) if name == "digits" else (Text(arguments.text), 120)
        for factor, spread in FACTORS:
            plain = runs(task, steps, lambda w, e, f=factor, s=spread: Magnified(SoftmaxTopK(w, e), f, s))
            constant = runs(
                task, steps, lambda w, e, f=factor, s=spread: Magnified(ConstantNorm(SoftmaxTopK(w, e)), f, s)
            )
            less = plain[:, 0] - constant[:, 0]
            losses = f"{plain[:, 0].mean():.4f} | {constant[:, 0].mean():.4f}"
            imbalances = f"{plain[:, 1].mean():.2f} | {constant[:, 1].mean():.2f}"
            error = less.std() / SEEDS**0.5
            print(
                f"| {name} | {factor:g} | {spread:g} | {losses} | {less.mean():.4f} +- {error:.4f} | "
                f"{imbalances} |",
                flush=True,
            )


def runs(task: Text | Digits, steps: int, make_gate: MakeGate) -> torch.Tensor:
    """Loss and imbalance of every seed [seeds, 2]."""
    results = [train(task, make_gate, seed, Training(steps)) for seed in range(SEEDS)]
    return torch.tensor([[result.loss, result.imbalance] for result in results])


if __name__ == "__main__":
    main()
