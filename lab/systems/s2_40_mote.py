"""Mixture of ternary experts (s2-40): more experts' weights of fewer bits, at equal bytes.

The last layers of SmolLM2-135M keep their feed-forward layer for every token and get four experts beside
it, of which a token takes one. Ternary experts are eight times as wide as those in 16 bits, less what
their scales take. Both begin as the dense model and are trained on the same tokens of the text's first
half, at each of the same learning rates; the best of each counts. Exits with 1 where the ternary ones are
behind in perplexity.

    .venv/bin/python lab/systems/s2_40_mote.py [--text FILE] [--model smollm2-135m] [--tokens 4096]
"""

import argparse
import copy
import sys
from pathlib import Path
from typing import Any

import torch
from real_tables import TEXT, print_criteria

from shortlist import checkpoints
from shortlist.torch.convert import ConvertOptions, TernaryExperts
from shortlist.torch.convert.heal import distill
from shortlist.torch.convert.measure import measure
from shortlist.torch.convert.pipeline import load_dense
from shortlist.torch.convert.texts import Halves, read_halves

LAYERS, WIDTH, SHARE = 4, 576, 192  # how many from the end; of a state; neurons of an expert in 16 bits
RATES = (5e-4, 2e-3)
LENGTH = 128


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--model", default="smollm2-135m", help="one that was pulled, or its file")
    parser.add_argument("--text", type=Path, default=TEXT, help="its halves are trained and tested on")
    parser.add_argument("--tokens", type=int, default=4096, help="of each training")
    arguments = parser.parse_args()
    path = checkpoints.resolve(arguments.model)
    text = [(arguments.text.name, arguments.text.read_text(encoding="utf-8"))]
    halves = read_halves(path, text, LENGTH)
    dense, _ = load_dense(path)
    print(f"dense: perplexity {measure(dense, halves.test).perplexity:.3f}\n")
    print("| experts | neurons | bytes of one | learning rate | perplexity |")
    print("| --- | ---: | ---: | ---: | ---: |")
    best = {}
    for ternary, neurons in ((False, SHARE), (True, ternary_width())):
        found = [trained(dense, halves, ternary, neurons, rate, arguments.tokens) for rate in RATES]
        best[ternary] = min(found)
    met = print_criteria(
        [
            (
                "perplexity, ternary / 16 bits",
                best[True] / best[False],
                best[True] <= best[False],
                "1",
            )
        ]
    )
    sys.exit(not met)


def trained(dense: Any, halves: Halves, ternary: bool, neurons: int, rate: float, tokens: int) -> float:
    """Perplexity of the model with such experts after training."""
    model = copy.deepcopy(dense)
    layers = tuple(range(model.config.num_hidden_layers))[-LAYERS:]
    method = TernaryExperts(ternary=ternary, expert_width=neurons)
    converted = method.convert(model, halves.text, ConvertOptions(layers=layers), lambda *_: None)
    distill(
        model,
        dense,
        halves.text.ids,
        method.trained(model),
        lambda done: min(1.0, done / tokens),
        text_weight=method.text_weight,
        rate=rate,
    )
    perplexity = measure(model, halves.test, converted.config).perplexity
    kind = "ternary" if ternary else "16 bits"
    print(
        f"| {kind} | {neurons} | {expert_bytes(ternary, neurons)} | {rate:g} | {perplexity:.3f} |", flush=True
    )
    return perplexity


def ternary_width() -> int:
    """The most neurons, in groups of 32, that take no more bytes than an expert in 16 bits."""
    limit = expert_bytes(False, SHARE)
    return max(width for width in range(32, 16 * SHARE, 32) if expert_bytes(True, width) <= limit)


def expert_bytes(ternary: bool, neurons: int) -> int:
    weights = 3 * WIDTH * neurons
    return weights // 4 + 4 * (2 * neurons + WIDTH) if ternary else 2 * weights


if __name__ == "__main__":
    torch.manual_seed(0)
    main()
