"""Online linear programming (s0-8): a gate with prices against the usual balance loss.

The small character model, 8 experts, 2 of them for each token, 200 steps, three seeds. Load of the busiest
expert in units of the mean, over the whole validation part, and perplexity there: of prices, of the bias of
DeepSeek-V3, of a balance loss of the usual weight, and of nothing. Exits with 1 where prices leave more than
1.2, or cost perplexity.

    .venv/bin/python lab/systems/s0_8_dual_price.py [--text FILE]
"""

import math
import sys

import torch
from criteria import print_criteria
from small_mixtures import MakeGate, Text, Training, task_arguments, train

from shortlist.torch.gates import DualPrice, Sigmoid, SoftmaxTopK

SEEDS, STEPS = 3, 200
Z_LOSS = {"router_z": 0.001}
WAYS: dict[str, tuple[MakeGate, dict[str, float]]] = {
    "prices": (DualPrice, {}),
    "bias, steps of 0.01": (lambda w, e: Sigmoid(w, e, rate=0.01), {}),
    "balance loss of 0.01": (SoftmaxTopK, {"load_balance": 0.01} | Z_LOSS),
    "nothing": (SoftmaxTopK, Z_LOSS),
}


def main() -> None:
    torch.set_num_threads(1)
    text = Text(task_arguments(__doc__, ("text",)).text)
    measured = {}
    print("| balanced by | perplexity | of each seed | busiest / mean | of each seed |")
    print("| --- | ---: | --- | ---: | --- |")
    for name, (make_gate, weights) in WAYS.items():
        results = [train(text, make_gate, seed, Training(STEPS, weights=weights)) for seed in range(SEEDS)]
        perplexities = [math.exp(result.loss) for result in results]
        imbalances = [result.imbalance for result in results]
        measured[name] = (sum(perplexities) / SEEDS, sum(imbalances) / SEEDS)
        each = [" ".join(f"{value:.3f}" for value in values) for values in (perplexities, imbalances)]
        print(
            f"| {name} | {measured[name][0]:.3f} | {each[0]} | {measured[name][1]:.3f} | {each[1]} |",
            flush=True,
        )
    perplexity, imbalance = measured["prices"]
    usual = measured["balance loss of 0.01"][0]
    met = print_criteria(
        [
            ("busiest expert / mean", imbalance, imbalance <= 1.2, "1.2"),
            ("perplexity", perplexity, perplexity <= usual, f"{usual:.4f}"),
        ]
    )
    sys.exit(not met)


if __name__ == "__main__":
    main()
