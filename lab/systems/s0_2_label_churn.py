"""Average sensitivity of k-clustering (s0-2): neurons that change their expert without some tokens.

Neurons of SmolLM2-135M are clustered by their sizes on calibration tokens, as `shortlist convert --method
cluster` does. A tenth of the tokens is left out, drawn anew each time: the share of neurons that land in
another cluster, once clusters are matched by what they share. Beside it what another seed changes, and
what labels in random order give.

    .venv/bin/python lab/systems/s0_2_label_churn.py [--text FILE] [--model smollm2-135m]
"""

from itertools import combinations

import numpy as np
from real_tables import arguments_of, open_model

from shortlist.torch.convert.balanced_kmeans import balanced_kmeans, churn, directions, label_churn

LAYERS, CLUSTERS, TOKENS = (2, 14, 26), (4, 24), (256, 1024)
DROP, REPEATS, SEEDS = 0.1, 2, 2


def main() -> None:
    arguments = arguments_of(__doc__, "smollm2-135m")
    print("| layer | experts | tokens | without 10 % of the tokens | other seed | random labels |")
    print("| ---: | ---: | ---: | ---: | ---: | ---: |")
    with open_model(arguments.model, arguments.text, fit=max(TOKENS), test=64) as model:
        for layer in LAYERS:
            ffn = model.ffn(layer)
            sizes = ffn.true_sizes(ffn.fit).T
            for tokens in TOKENS:
                for clusters in CLUSTERS:
                    print_row(layer, sizes[:, :tokens], clusters)


def print_row(layer: int, profiles: np.ndarray, clusters: int) -> None:
    dropped = np.mean([label_churn(profiles, clusters, DROP, REPEATS, seed) for seed in range(SEEDS)])
    points = directions(profiles)
    labels = [balanced_kmeans(points, clusters, seed) for seed in range(SEEDS)]
    seeds = np.mean([churn(a, b) for a, b in combinations(labels, 2)])
    shuffled = np.random.default_rng(0).permutation(labels[0])
    print(
        f"| {layer} | {clusters} | {profiles.shape[1]} | {dropped:.1%} | {seeds:.1%} "
        f"| {churn(labels[0], shuffled):.1%} |",
        flush=True,
    )


if __name__ == "__main__":
    main()
