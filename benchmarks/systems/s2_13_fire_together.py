"""Fire Together Wire Together (s2-13): neurons predicted from the activations of the layer before.

The predictor is a regression from the sizes of the previous layer's neurons to the logarithms of this
layer's, cut to a low rank in the metric of its inputs: at most 5 % of the layer's bytes. Recall of the top 10
% neurons among the top 20 %, beside the neurons' own earlier sizes. Then the error of the layer's output
where the best neurons are kept, k fixed or by the mass of the sizes, with the same mean k. Exits with 1 where
recall is below 0.9, or the mass errs more.

    .venv/bin/python benchmarks/systems/s2_13_fire_together.py [--text FILE] [--model smollm2-135m]
"""

import sys

import numpy as np
from real_tables import Ffn, arguments_of, best_units, open_model, print_criteria, recall_within

from shortlist.estimators import Estimate, LowRank
from shortlist.selectors import ScoreMass

FFN_LAYERS, RANK, MASS, FLOOR = 5, 8, 0.8, 1e-4


def main() -> None:
    arguments = arguments_of(__doc__, "smollm2-135m")
    recalls, leads = [], []
    print("| layer | bytes | from the layer before | the same neurons last token | fixed k | mass |")
    print("| ---: | ---: | ---: | ---: | ---: | ---: |")
    with open_model(arguments.model, arguments.text, fit=4096, test=512) as model:
        for layer in range(1, model.layers, -(-model.layers // FFN_LAYERS)):
            before, ffn = model.ffn(layer - 1), model.ffn(layer)
            recall, share = predicted_recall(before, ffn)
            sizes = ffn.true_sizes(ffn.test)
            wanted = best_units(sizes, len(ffn.norms) // 10)
            last = recall_within(sizes[:-1], wanted[1:], len(ffn.norms) // 5)
            fixed, mass = output_errors(ffn, sizes)
            recalls.append(recall)
            leads.append(fixed - mass)
            cells = " | ".join(f"{value:.4f}" for value in (recall, last, fixed, mass))
            print(f"| {layer} | {share:.1%} | {cells} |", flush=True)
    met = print_criteria(
        [
            ("least recall of the predictor", min(recalls), min(recalls) >= 0.9, "0.9"),
            ("least lead of mass over fixed k", min(leads), min(leads) >= 0, "0"),
        ]
    )
    sys.exit(not met)


def predicted_recall(before: Ffn, ffn: Ffn) -> tuple[float, float]:
    """Recall of the predictor, and its bytes as a share of the layer's."""
    inputs, tests = (logarithms(before.true_sizes(part)) for part in (before.fit, before.test))
    targets = logarithms(ffn.true_sizes(ffn.fit))
    means = inputs.mean(axis=0), targets.mean(axis=0)
    inputs, targets, tests = inputs - means[0], targets - means[1], tests - means[0]
    ridge = 0.1 * np.mean(inputs**2) * len(inputs) * np.eye(inputs.shape[1], dtype=np.float32)
    table = np.linalg.solve(inputs.T @ inputs + ridge, inputs.T @ targets).T
    estimator = LowRank(RANK, spread_per_query=False)
    predicted = estimator.estimate(estimator.fit(table, inputs), tests).values + means[1]
    wanted = best_units(ffn.true_sizes(ffn.test), len(ffn.norms) // 10)
    stored = estimator.bytes_per_query(*table.shape) + means[0].nbytes + means[1].nbytes
    return recall_within(predicted, wanted, len(ffn.norms) // 5), stored / ffn.nbytes


def logarithms(sizes: np.ndarray) -> np.ndarray:
    return np.log(sizes + FLOOR)


def output_errors(ffn: Ffn, sizes: np.ndarray) -> tuple[float, float]:
    """Squared error of the layer's output over its size, k fixed and by mass, with the same mean k."""
    activations = ffn.activations(ffn.test @ ffn.gate.T, ffn.test @ ffn.up.T)
    by_mass = [ScoreMass(MASS).select(Estimate(s), lambda i: i).indices for s in sizes]
    fixed = best_units(sizes, round(np.mean([len(chosen) for chosen in by_mass])))
    return error_of(ffn, activations, list(fixed)), error_of(ffn, activations, by_mass)


def error_of(ffn: Ffn, activations: np.ndarray, chosen: list[np.ndarray]) -> float:
    lost = activations.copy()
    for row, kept in zip(lost, chosen, strict=True):
        row[kept] = 0
    return float(np.sum((lost @ ffn.down.T) ** 2) / np.sum((activations @ ffn.down.T) ** 2))


if __name__ == "__main__":
    main()
