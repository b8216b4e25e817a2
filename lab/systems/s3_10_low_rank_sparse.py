"""Low rank plus sparse (s3-10): are corrections at single inputs worth their bytes?

A correction costs as much as four dimensions. Recall at equal bytes, of the top 10 % neurons of three
feed-forward layers and of the best 32 rows of the head, for shares of the bytes from none to most. Exits
with 1 where none of them gains anything.

    .venv/bin/python lab/systems/s3_10_low_rank_sparse.py [--text FILE] [--model smollm2-135m]
"""

import sys

from real_tables import (
    arguments_of,
    best_units,
    ffn_recall,
    head_recall,
    head_values,
    open_model,
    print_criteria,
)

from shortlist.estimators import LowRank, LowRankSparse

OPTIONS = [LowRank(96), LowRankSparse(80, 4), LowRankSparse(64, 8), LowRankSparse(32, 16)]
FFN_LAYERS = 3


def main() -> None:
    arguments = arguments_of(__doc__, "smollm2-135m")
    gains = []
    print("| | " + " | ".join(map(str, OPTIONS)) + " |\n| --- |" + " ---: |" * len(OPTIONS))
    with open_model(arguments.model, arguments.text, fit=1024, test=256) as model:
        for layer in range(0, model.layers, -(-model.layers // FFN_LAYERS)):
            ffn = model.ffn(layer)
            recalls = [ffn_recall(ffn, estimator) for estimator in OPTIONS]
            gains.append(max(recalls[1:]) - recalls[0])
            print(f"| FFN of layer {layer} | " + " | ".join(f"{r:.4f}" for r in recalls) + " |", flush=True)
        head = model.head()
        wanted, kept = best_units(head_values(head, head.test), 32), head.rows.rows // 100
        recalls = [head_recall(head, e, e.fit(head.rows, head.fit), wanted, kept) for e in OPTIONS]
        gains.append(max(recalls[1:]) - recalls[0])
        print("| head, top 32 | " + " | ".join(f"{r:.4f}" for r in recalls) + " |")
    most = max(gains)
    sys.exit(not print_criteria([("most that corrections gain", most, most > 0, "above 0")]))


if __name__ == "__main__":
    main()
