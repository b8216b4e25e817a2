"""DNIS (s1-24): a head's rows in frequency groups with dimensions of their own, against one rank for all.

Recall of the dense winner among the best 1 % of the rows by estimate, against the bytes of the rows' codes.
Exits with 1 where the cheapest mixed ranks that reach a recall of 0.98 need more than 80 % of the bytes of
the cheapest single rank that does.

    .venv/bin/python benchmarks/systems/s1_24_dnis.py [--text FILE] [--model gemma-3-270m]
"""

import sys

from real_tables import arguments_of, best_units, head_recall, head_values, open_model, print_criteria

from shortlist.estimators import Estimator, LowRank
from shortlist.estimators.int8_codes import int8_bytes
from shortlist.estimators.mixed_width import MixedWidth, group_slices, learn_ranks

TARGET = 0.98
RANKS = (16, 32, 48, 64)
STRENGTH = 0.2


def main() -> None:
    arguments = arguments_of(__doc__, "gemma-3-270m")
    with open_model(arguments.model, arguments.text, fit=2048, test=256) as model:
        head = model.head()
    units = head.rows.rows
    wanted, kept = best_units(head_values(head, head.test), 1), units // 100
    print("| ranks | bytes | recall |\n| --- | ---: | ---: |")

    def cheapest(options: list[Estimator]) -> float:
        reaching = []
        for estimator in options:
            recall = head_recall(head, estimator, estimator.fit(head.rows, head.fit), wanted, kept)
            cost = code_bytes(estimator, units)
            print(f"| {estimator} | {cost / head.rows.nbytes:.2%} | {recall:.4f} |", flush=True)
            if recall >= TARGET:
                reaching.append(cost)
        return min(reaching, default=float("inf"))

    single = cheapest([LowRank(rank) for rank in RANKS])
    mixed = cheapest([learn_ranks(head.rows, head.fit, rank, strength=STRENGTH) for rank in RANKS[:-1]])
    share = mixed / single
    sys.exit(not print_criteria([("bytes of mixed ranks / single rank", share, share <= 0.8, "0.8")]))


def code_bytes(estimator: Estimator, units: int) -> int:
    """Bytes of the rows' codes: what differs between the two."""
    if isinstance(estimator, MixedWidth):
        groups = group_slices(units, len(estimator.ranks))
        return sum(int8_bytes(g.stop - g.start, r) for g, r in zip(groups, estimator.ranks, strict=True))
    assert isinstance(estimator, LowRank)
    return int8_bytes(units, estimator.rank)


if __name__ == "__main__":
    main()
