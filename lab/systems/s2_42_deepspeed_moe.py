"""DeepSpeed-MoE (s2-42): few experts in early layers, many in late ones, and a shared one beside the chosen.

Three models that multiply as much for a token: dense; uniform, 16 experts of half the dense layer's neurons
in each layer, two chosen; and pyramid-residual, with 4, 4, 8 and 16 such experts, one chosen (weighted by
its softmax), and one shared. The same number of steps, three seeds. Exits with 1 where the pyramid's mean
validation loss is more than 1 % above the uniform layout's, or not below the dense model's, or where its
experts, the shared ones counted, have more than 60 % of the parameters.

    .venv/bin/python lab/systems/s2_42_deepspeed_moe.py [--text FILE]
"""

import sys
from dataclasses import replace
from pathlib import Path
from statistics import mean, stdev
from tempfile import TemporaryDirectory

from real_tables import print_criteria
from tiny_runs import SEEDS, base_config, multiply_adds, print_table, text_of, train

from shortlist.torch import moe_layers
from shortlist.torch.train.config import GateConfig, MoEConfig
from shortlist.torch.train.result import Run

NEURONS, STEPS = 128, 300
LAYOUTS = {
    "dense": None,
    "uniform": MoEConfig(16, width=NEURONS // 2, gate=GateConfig(options={"k": 2})),
    "pyramid-residual": MoEConfig(
        (4, 4, 8, 16),
        width=NEURONS // 2,
        shared=NEURONS // 2,
        gate=GateConfig(options={"k": 1, "normalize": False}),
    ),
}


def main() -> None:
    text = text_of(__doc__)
    losses: dict[str, list[float]] = {name: [] for name in LAYOUTS}
    parameters, compute = {}, {}
    with TemporaryDirectory() as name:
        tokenizer = None
        for seed in SEEDS:
            for layout, moe in LAYOUTS.items():
                config = replace(base_config(text, 4, NEURONS, STEPS), moe=moe)
                run = train(config, Path(name) / f"{layout} {seed}", tokenizer, seed=seed)
                tokenizer = tokenizer or run.folder
                assert run.validation_loss is not None
                losses[layout].append(run.validation_loss)
                parameters[layout], compute[layout] = expert_parameters(run), multiply_adds(run)
    rows = [
        (
            layout,
            *(f"{loss:.4f}" for loss in values),
            f"{mean(values):.4f} ± {stdev(values):.4f}",
            f"{parameters[layout] / 1e6:.2f} M",
            f"{compute[layout] / compute['dense']:.3f}",
        )
        for layout, values in losses.items()
    ]
    seeds = [f"seed {seed}" for seed in SEEDS]
    print_table(("validation loss", *seeds, "mean", "in experts", "compute"), rows)
    above = mean(losses["pyramid-residual"]) / mean(losses["uniform"]) - 1
    below = mean(losses["pyramid-residual"]) - mean(losses["dense"])
    share = parameters["pyramid-residual"] / parameters["uniform"]
    met = print_criteria(
        [
            ("loss above the uniform layout's, share", above, above <= 0.01, "0.01"),
            ("loss less the dense model's", below, below < 0, "below 0"),
            ("parameters of experts, share of the uniform layout's", share, share <= 0.6, "0.6"),
        ]
    )
    sys.exit(not met)


def expert_parameters(run: Run) -> int:
    """Of routed and shared experts, without gates."""
    layers = list(moe_layers(run.model))
    parts = [part for layer in layers for part in (layer.experts, layer.shared_expert) if part is not None]
    return sum(p.numel() for part in parts for p in part.parameters())


if __name__ == "__main__":
    main()
