"""LeanVec (s1-28): hidden states against the rows of a head, through a quarter of the width.

Recall of the true best 10 rows among the best 1 % by estimate, for the projection fitted to queries and
table, PCA of the queries, and the data-aware low rank. Exits with 1 where LeanVec is below 0.98 or below PCA.

    .venv/bin/python benchmarks/systems/s1_28_leanvec.py [--text FILE] [--model gemma-3-270m]
"""

import sys

from real_tables import arguments_of, best_units, head_recall, head_values, open_model, print_criteria

from shortlist.estimators import LowRank


def main() -> None:
    arguments = arguments_of(__doc__, "gemma-3-270m")
    with open_model(arguments.model, arguments.text, fit=4096, test=512) as model:
        head = model.head()
    wanted, kept = best_units(head_values(head, head.test), 10), head.rows.rows // 100
    rank = head.rows.cols // 4
    recalls = {}
    for metric in ("leanvec", "pca", "queries"):
        estimator = LowRank(rank, metric)
        recalls[metric] = head_recall(head, estimator, estimator.fit(head.rows, head.fit), wanted, kept)
        print(f"rank {rank}, {metric}: recall@10 {recalls[metric]:.4f}", flush=True)
    lean, pca = recalls["leanvec"], recalls["pca"]
    met = print_criteria(
        [("recall@10", lean, lean >= 0.98, "0.98"), ("lead over PCA", lean - pca, lean >= pca, "0")]
    )
    sys.exit(not met)


if __name__ == "__main__":
    main()
