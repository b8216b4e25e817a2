"""DNIS (s1-24): a head's rows in frequency groups with dimensions of their own, against one rank for all.

Recall of the dense winner among the best 1 % of the rows by estimate, against the bytes that a query reads of
the state. Each side grows until it reaches a recall of 0.98. Exits with 1 where mixed ranks then need more
than 80 % of the bytes of the single rank.

    .venv/bin/python lab/systems/s1_24_dnis.py [--text FILE] [--model gemma-3-270m]
"""

import sys
from collections.abc import Iterable

import numpy as np
from real_tables import Head, arguments_of, best_units, head_recall, head_values, open_model, print_criteria

from shortlist.estimators import Estimator, LowRank
from shortlist.estimators.mixed_width import learn_ranks

TARGET = 0.98
MIXED = (16, 24, 32, 48, 64, 96, 128)  # mean ranks
SINGLE = (48, 64, 72, 80, 96, 128, 160, 192)


def main() -> None:
    arguments = arguments_of(__doc__, "gemma-3-270m")
    with open_model(arguments.model, arguments.text, fit=2048, test=512) as model:
        head = model.head()
    wanted = best_units(head_values(head, head.test), 1)
    print("| ranks | bytes | recall |\n| --- | ---: | ---: |")
    mixed = bytes_to_target(head, wanted, (learn_ranks(head.rows, head.fit, rank) for rank in MIXED))
    single = bytes_to_target(head, wanted, (LowRank(rank) for rank in SINGLE))
    share = mixed / single
    sys.exit(not print_criteria([("bytes of mixed ranks / single rank", share, share <= 0.8, "0.8")]))


def bytes_to_target(head: Head, wanted: np.ndarray, estimators: Iterable[Estimator]) -> float:
    """Bytes per query of the first estimator that reaches the recall."""
    for estimator in estimators:
        recall = head_recall(
            head, estimator, estimator.fit(head.rows, head.fit), wanted, head.rows.rows // 100
        )
        cost = estimator.bytes_per_query(head.rows.rows, head.rows.cols)
        print(f"| {estimator} | {cost / head.rows.nbytes:.2%} | {recall:.4f} |", flush=True)
        if recall >= TARGET:
            return cost
    return float("inf")


if __name__ == "__main__":
    main()
