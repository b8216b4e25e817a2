"""Axis relevance (s1-1) and intrinsic dimension (s1-36): which computed rank is nearest to the best one?

For every third feed-forward layer and the head: the least rank of a sweep whose shortlist of the top 20 %
holds 60 % of the top 10 % neurons (of the best 1 %, 95 % of the best 32 rows), beside ranks computed from
the same table and queries. Each rule may be scaled by one factor, the same for all tables; what counts is how
far it then is off, in octaves.

    .venv/bin/python lab/systems/s1_1_s1_36_ranks.py [--text FILE] [--model smollm2-135m]
"""

import numpy as np
from computed_ranks import energy_rank, intrinsic_dimension, relevance_rank, score_variances
from real_tables import (
    Ffn,
    arguments_of,
    best_units,
    head_recall,
    head_values,
    open_model,
    recall_within,
)

from shortlist.estimators import LowRank

RANKS = tuple(round(8 * 2 ** (step / 2)) for step in range(12))  # 8 to 362, by half octaves
FFN_RECALL, HEAD_RECALL = 0.6, 0.95
SAMPLE = 1024  # queries of the intrinsic dimension
LAYER_STEP = 3


def main() -> None:
    arguments = arguments_of(__doc__, "smollm2-135m")
    found: list[tuple[int, dict[str, float]]] = []
    with open_model(arguments.model, arguments.text, fit=2048, test=256) as model:
        for layer in range(0, model.layers, LAYER_STEP):
            ffn = model.ffn(layer)
            found.append((best_ffn_rank(ffn), computed(ffn.table, ffn.fit)))
            print_row(f"FFN of layer {layer}", *found[-1])
        head = model.head()
    wanted, kept = best_units(head_values(head, head.test), 32), head.rows.rows // 100
    for rank in RANKS:
        estimator = LowRank(rank)
        if head_recall(head, estimator, estimator.fit(head.rows, head.fit), wanted, kept) >= HEAD_RECALL:
            found.append((rank, computed(head.rows, head.fit)))
            print_row("head", *found[-1])
            break
    print("\n| rule | factor | median octaves off | worst |\n| --- | ---: | ---: | ---: |")
    for rule in found[0][1]:
        octaves = np.array([np.log2(ranks[rule] / best) for best, ranks in found])
        off = np.abs(octaves - np.median(octaves))
        print(f"| {rule} | {2 ** -np.median(octaves):.2f} | {np.median(off):.2f} | {off.max():.2f} |")


def best_ffn_rank(ffn: Ffn) -> int:
    """Least rank of the sweep that reaches the recall, by brute force."""
    neurons = len(ffn.norms)
    wanted = best_units(ffn.true_sizes(ffn.test), neurons // 10)
    widest = max(rank for rank in RANKS if rank < ffn.gate.shape[1])
    estimator = LowRank(widest)
    state = estimator.fit(ffn.table, ffn.fit)
    for rank in (rank for rank in RANKS if rank < widest):
        kept = {**state, "codes": np.where(np.arange(widest) < rank, state["codes"], np.int8(0))}
        gate, up = np.split(estimator.score(kept, ffn.test).values, 2, axis=1)
        if recall_within(ffn.sizes(gate, up), wanted, neurons // 5) >= FFN_RECALL:
            return rank
    return widest


def computed(table: object, queries: np.ndarray) -> dict[str, float]:
    """Rank of each rule."""
    variances = score_variances(table, queries)
    sample = queries[:: max(1, len(queries) // SAMPLE)]
    return {
        **{f"energy {share}": energy_rank(variances, share) for share in (0.7, 0.8, 0.9, 0.95)},
        **{f"relevance {t}": relevance_rank(variances, t) for t in (0.5, 1.0, 2.0)},
        "intrinsic dimension": intrinsic_dimension(sample),
        "always the same": 64.0,
    }


def print_row(name: str, best: int, ranks: dict[str, float]) -> None:
    print(f"{name}: best {best}; " + ", ".join(f"{r} {value:.0f}" for r, value in ranks.items()), flush=True)


if __name__ == "__main__":
    main()
