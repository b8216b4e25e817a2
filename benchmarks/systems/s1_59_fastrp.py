"""FastRP (s1-59): very sparse random projections of a head against Gaussian ones of equal width.

Recall of the best row and the best 32 among the best 1 % by estimate, the mean of three draws each. Exits
with 1 where the sparse one is more than a point behind, or needs more than a fifth of the multiply-adds.

    .venv/bin/python benchmarks/systems/s1_59_fastrp.py [--text FILE] [--model smollm2-135m]
"""

import sys

import numpy as np
from real_tables import (
    Head,
    arguments_of,
    best_units,
    head_recall,
    head_values,
    open_model,
    print_criteria,
    recall_within,
)

from shortlist.estimators import Sketch
from shortlist.estimators.base import table_chunks

RANKS, DRAWS = (64, 256), 3


def main() -> None:
    arguments = arguments_of(__doc__, "smollm2-135m")
    with open_model(arguments.model, arguments.text, fit=64, test=256) as model:
        head = model.head()
    units, width = head.rows.rows, head.rows.cols
    wanted, kept = best_units(head_values(head, head.test), 32), units // 100
    behind = []
    print("| width | rows wanted | sparse | Gaussian |\n| ---: | ---: | ---: | ---: |")
    for rank in RANKS:
        sketches = [Sketch(rank, seed=seed) for seed in range(DRAWS)]
        states = [sketch.fit(head.rows, head.fit) for sketch in sketches]
        dense = [gaussian(head, rank, seed) for seed in range(DRAWS)]
        for count in (1, 32):
            rows = wanted[:, :count]
            ours = np.mean(
                [head_recall(head, e, s, rows, kept) for e, s in zip(sketches, states, strict=True)]
            )
            theirs = np.mean([recall_within(values, rows, kept) for values in dense])
            behind.append(float(theirs - ours))
            print(f"| {rank} | {count} | {ours:.4f} | {theirs:.4f} |", flush=True)
    adds = width / Sketch(1).layout(1, width)["places"][1][1]
    worst = max(behind)
    met = print_criteria(
        [
            ("most that sparse is behind", worst, worst <= 0.01, "0.01"),
            ("multiply-adds of Gaussian / sparse", adds, adds >= 5, "at least 5"),
        ]
    )
    sys.exit(not met)


def gaussian(head: Head, rank: int, seed: int) -> np.ndarray:
    """Estimates [positions, rows] through a dense Gaussian projection."""
    directions = np.random.default_rng(seed).standard_normal((head.rows.cols, rank)).astype(np.float32)
    queries = head.test @ directions / rank
    chunks = [queries @ (chunk @ directions).T for _, chunk in table_chunks(head.rows, like=queries)]
    return np.concatenate(chunks, axis=1)


if __name__ == "__main__":
    main()
