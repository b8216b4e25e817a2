"""EvoMoE (s2-4): one expert, then copies of it made diverse, and a gate that goes from dense to sparse.

Against a mixture of as many experts of the same size that chooses one from the first step on (top-1, with
the weight of its softmax, a load-balance and a z loss), trained for as many multiply-adds, and hence more
steps, over three seeds. Exits with 1 where EvoMoE's mean validation loss is not lower, or where a
token has more than two experts on average at the end.

    .venv/bin/python lab/systems/s2_4_evomoe.py [--text FILE]
"""

import sys
from dataclasses import replace
from pathlib import Path
from statistics import mean
from tempfile import TemporaryDirectory

from real_tables import print_criteria
from tiny_runs import SEEDS, active_experts, base_config, multiply_adds, print_table, text_of, train

from shortlist.torch.train.config import GateConfig, MoEConfig

LAYERS, NEURONS, EXPERTS = 2, 128, 8
ALONE, EVOLVING = 100, 300  # steps with one expert, and with all
TOP_1 = MoEConfig(EXPERTS, gate=GateConfig("softmax", options={"k": 1, "normalize": False}))
EVO = MoEConfig(EXPERTS, gate=GateConfig("evomoe", options={"k": 1}))


def main() -> None:
    config = base_config(text_of(__doc__), LAYERS, NEURONS, EVOLVING)
    losses, rows, ends = [], [], []
    with TemporaryDirectory() as name:
        folder, tokenizer = Path(name), None
        for seed in SEEDS:
            alone = train(
                config,
                folder / f"alone {seed}",
                tokenizer,
                seed=seed,
                steps=ALONE,
                schedule="constant_with_warmup",
            )
            tokenizer = folder / f"alone {SEEDS[0]}"
            model = replace(config.model, start=str(alone.folder))
            evo = train(replace(config, model=model, moe=EVO), folder / f"evo {seed}", tokenizer, seed=seed)
            active = active_experts(evo)
            budget = multiply_adds(alone) + multiply_adds(evo)
            # The first step of a short run tells what a step costs.
            probe = train(replace(config, moe=TOP_1), folder / f"probe {seed}", tokenizer, seed=seed, steps=1)
            steps = round(budget / multiply_adds(probe))
            top_1 = train(
                replace(config, moe=TOP_1), folder / f"top-1 {seed}", tokenizer, seed=seed, steps=steps
            )
            assert evo.validation_loss is not None
            assert top_1.validation_loss is not None
            losses.append((evo.validation_loss, top_1.validation_loss))
            ends.append(mean(active[-10:]))
            rows.append(
                (
                    str(seed),
                    f"{evo.validation_loss:.4f}",
                    f"{top_1.validation_loss:.4f}",
                    f"{ALONE} + {EVOLVING}",
                    str(steps),
                    f"{active[0]:.2f} → {ends[-1]:.2f}",
                    f"{multiply_adds(top_1) / budget:.3f}",
                )
            )
    head = ("seed", "EvoMoE", "top-1", "steps", "steps of top-1", "experts of a token", "compute of top-1")
    print_table(head, rows)
    evo, top_1 = (mean(column) for column in zip(*losses, strict=True))
    met = print_criteria(
        [
            ("loss of EvoMoE less that of top-1", evo - top_1, evo < top_1, "below 0"),
            ("experts of a token at the end", max(ends), max(ends) <= 2, "2"),
        ]
    )
    sys.exit(not met)


if __name__ == "__main__":
    main()
