"""COMET (s2-33): trees against top-k, and what the search for an order of the experts adds.

Digits and the small character model, 8 experts, k = 2, five seeds, equal compute: softmax top-k with its
usual balance loss, trees, and trees in the order that the search finds in the first fifth. Active experts and
loss on the validation part; the spread of a gate is its worst seed's loss minus its best one's. Exits with 1
where trees have more than k experts in the end, a higher mean loss than top-k, or a spread that the search
does not shrink.

    .venv/bin/python lab/systems/s2_33_comet.py [--text FILE] [--tasks digits text]
"""

import sys

import torch
from criteria import print_criteria
from small_mixtures import Digits, MakeGate, Text, Training, task_arguments, train

from shortlist.torch.gates import Comet, Permuted, SoftmaxTopK

SEEDS, K = 5, 2
HARDEN = {"entropy": 0.05, "load_balance": 0.01}
GATES: dict[str, tuple[MakeGate, dict[str, float]]] = {
    "top-k": (SoftmaxTopK, {"load_balance": 0.01, "router_z": 0.001}),
    "trees": (Comet, HARDEN),
    "trees, order searched": (lambda w, e: Permuted(Comet(w, e)), HARDEN),
}


def main() -> None:
    torch.set_num_threads(1)
    arguments = task_arguments(__doc__)
    print("| task | gate | loss | of each seed | spread | active experts | steps |")
    print("| --- | --- | ---: | --- | ---: | ---: | ---: |")
    criteria = []
    for name in arguments.tasks:
        task, steps = (Digits(), 160) if name == "digits" else (Text(arguments.text), 120)
        losses, active = {}, {}
        for gate, (make_gate, weights) in GATES.items():
            training = Training(steps, weights=weights)
            results = [train(task, make_gate, seed, training) for seed in range(SEEDS)]
            losses[gate] = torch.tensor([result.loss for result in results])
            active[gate] = sum(result.active for result in results) / SEEDS
            each = " ".join(f"{loss:.3f}" for loss in losses[gate])
            print(
                f"| {name} | {gate} | {losses[gate].mean():.4f} | {each} | {spread(losses[gate]):.4f} | "
                f"{active[gate]:.2f} | {sum(result.steps for result in results) // SEEDS} |",
                flush=True,
            )
        mean, limit = losses["trees"].mean().item(), losses["top-k"].mean().item()
        searched, unsearched = spread(losses["trees, order searched"]), spread(losses["trees"])
        criteria += [
            (f"{name}: active experts of trees", active["trees"], active["trees"] <= K, f"{K}"),
            (f"{name}: loss of trees", mean, mean <= limit, f"{limit:.4f}"),
            (f"{name}: spread with the search", searched, searched < unsearched, f"below {unsearched:.4f}"),
        ]
    sys.exit(not print_criteria(criteria))


def spread(losses: torch.Tensor) -> float:
    return (losses.max() - losses.min()).item()


if __name__ == "__main__":
    main()
