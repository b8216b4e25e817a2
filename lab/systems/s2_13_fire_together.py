"""Fire Together Wire Together (s2-13): neurons predicted from the activations of the layer before.

The predictor is a regression from the sizes of the previous layer's neurons to the logarithms of this
layer's, cut to a low rank in the metric of its inputs: at most 5 % of the layer's bytes. Recall of the top 10
% neurons among the top 20 %, beside the neurons' own earlier sizes. Then the perplexity of the model where
each layer keeps its truly largest neurons: as many as hold a share of the mass of their sizes, or, with the
same mean, as many for every token, or for every token and layer. Exits with 1 where recall is below 0.9, or
mass is worse than one of these.

    .venv/bin/python lab/systems/s2_13_fire_together.py [--text FILE] [--model smollm2-135m]
"""

import sys

import numpy as np
from masked_model import Choose, MaskedModel
from real_tables import Ffn, RealModel, arguments_of, best_units, open_model, print_criteria, recall_within

from shortlist.estimators import LowRank, Scores
from shortlist.selectors import ScoreMass

FFN_LAYERS, RANK, FLOOR = 5, 8, 1e-4
MASSES, TOKENS = (0.7, 0.8), 1024


def main() -> None:
    arguments = arguments_of(__doc__, "smollm2-135m")
    recalls = []
    with open_model(arguments.model, arguments.text, fit=4096, test=TOKENS) as model:
        leads = mass_leads(model)
        print("\n| layer | bytes | from the layer before | the same neurons last token |")
        print("| ---: | ---: | ---: | ---: |")
        for layer in range(1, model.layers, -(-model.layers // FFN_LAYERS)):
            before, ffn = model.ffn(layer - 1), model.ffn(layer)
            recall, share = predicted_recall(before, ffn)
            sizes = ffn.true_sizes(ffn.test)
            wanted = best_units(sizes, len(ffn.norms) // 10)
            last = recall_within(sizes[:-1], wanted[1:], len(ffn.norms) // 5)
            recalls.append(recall)
            print(f"| {layer} | {share:.1%} | {recall:.4f} | {last:.4f} |", flush=True)
    met = print_criteria(
        [
            ("least recall of the predictor", min(recalls), min(recalls) >= 0.9, "0.9"),
            ("least lead of mass over fixed k, perplexity", min(leads), min(leads) >= 0, "0"),
        ]
    )
    sys.exit(not met)


def mass_leads(model: RealModel) -> list[float]:
    """How much lower the perplexity is with k by mass than with the better fixed k, for each mass."""
    masked = MaskedModel(model.checkpoint)
    neurons = model.checkpoint.config.ffn_width
    print(f"perplexity with all neurons: {masked.perplexity(*model.test_text):.3f}\n")
    print("| mass | mean k | by mass | k fixed in each layer | one k |\n| ---: | ---: | ---: | ---: | ---: |")
    leads = []
    for mass in MASSES:
        counts: list[list[int]] = [[] for _ in range(model.layers)]
        by_mass = masked.perplexity(*model.test_text, hold_mass(mass, counts))
        means = [float(np.mean(layer)) for layer in counts]
        in_layers = masked.perplexity(*model.test_text, keep_largest(means))
        one = masked.perplexity(*model.test_text, keep_largest([float(np.mean(means))] * model.layers))
        leads.append(min(in_layers, one) - by_mass)
        share = np.mean(means) / neurons
        print(f"| {mass} | {share:.1%} | {by_mass:.3f} | {in_layers:.3f} | {one:.3f} |", flush=True)
    return leads


def hold_mass(mass: float, counts: list[list[int]]) -> Choose:
    """Neurons that hold the mass of the sizes; how many is appended to the layer's `counts`."""
    selector = ScoreMass(mass)

    def choose(layer: int, sizes: np.ndarray) -> np.ndarray:
        kept = np.zeros(sizes.shape, dtype=bool)
        for row, values in zip(kept, sizes, strict=True):
            row[selector.select(Scores(values), lambda indices: indices).indices] = True
        counts[layer] += kept.sum(axis=1).tolist()
        return kept

    return choose


def keep_largest(counts: list[float]) -> Choose:
    """As many neurons for every token, by layer."""

    def choose(layer: int, sizes: np.ndarray) -> np.ndarray:
        kept = np.zeros(sizes.shape, dtype=bool)
        np.put_along_axis(kept, best_units(sizes, round(counts[layer])), True, axis=1)
        return kept

    return choose


def predicted_recall(before: Ffn, ffn: Ffn) -> tuple[float, float]:
    """Recall of the predictor, and its bytes as a share of the layer's."""
    inputs, tests = (logarithms(before.true_sizes(part)) for part in (before.fit, before.test))
    targets = logarithms(ffn.true_sizes(ffn.fit))
    means = inputs.mean(axis=0), targets.mean(axis=0)
    inputs, targets, tests = inputs - means[0], targets - means[1], tests - means[0]
    ridge = 0.1 * np.mean(inputs**2) * len(inputs) * np.eye(inputs.shape[1], dtype=np.float32)
    table = np.linalg.solve(inputs.T @ inputs + ridge, inputs.T @ targets).T
    estimator = LowRank(RANK, spread_per_query=False)
    predicted = estimator.score(estimator.fit(table, inputs), tests).values + means[1]
    wanted = best_units(ffn.true_sizes(ffn.test), len(ffn.norms) // 10)
    stored = estimator.bytes_per_query(*table.shape) + means[0].nbytes + means[1].nbytes
    return recall_within(predicted, wanted, len(ffn.norms) // 5), stored / ffn.nbytes


def logarithms(sizes: np.ndarray) -> np.ndarray:
    return np.log(sizes + FLOOR)


if __name__ == "__main__":
    main()
