"""LR2VQ (s1-53): subvectors of all neurons clustered together, in trained coordinates of fewer dimensions.

Gate and up of five feed-forward layers, a code of 8 bits for each four inputs: about 2 bits per weight with
all that is stored. Recall of the top 10 % neurons for every number of dimensions, beside plain product
quantization in parts whose bytes are next above; and the number of dimensions that the variances predict to
err least. Exits with 1 where plain codes are better, or the prediction is more than one step off.

    .venv/bin/python lab/systems/s1_53_lr2vq.py [--text FILE] [--model smollm2-135m]
"""

import sys

import numpy as np
from real_tables import Ffn, arguments_of, ffn_recall, open_model, print_criteria

from shortlist.estimators import Codebook, SharedCodebook
from shortlist.estimators.directions import second_moment

PART, DIMENSIONS, FFN_LAYERS = 4, (1, 2, 3, 4), 5
BITS = 8  # of a code


def main() -> None:
    arguments = arguments_of(__doc__, "smollm2-135m")
    gains, steps = [], []
    with open_model(arguments.model, arguments.text, fit=1024, test=256) as model:
        for layer in range(0, model.layers, -(-model.layers // FFN_LAYERS)):
            ffn = model.ffn(layer)
            ours = [SharedCodebook(PART, dimensions) for dimensions in DIMENSIONS]
            plain = plain_codes(ffn, bits_per_weight(ffn, ours[-1]))
            if not gains:
                titles = [f"{e} ({bits_per_weight(ffn, e):.2f} bits)" for e in (plain, *ours)]
                print("| layer | " + " | ".join(titles) + " | predicted |")
                print("| ---: |" + " ---: |" * (len(titles) + 1))
            recalls = [ffn_recall(ffn, estimator) for estimator in (plain, *ours)]
            best = int(np.argmax(recalls[1:]))
            predicted = int(np.argmin(predicted_errors(ffn)))
            gains.append(recalls[1 + best] - recalls[0])
            steps.append(abs(predicted - best))
            cells = " | ".join(f"{recall:.4f}" for recall in recalls)
            print(f"| {layer} | {cells} | {DIMENSIONS[predicted]} |", flush=True)
    met = print_criteria(
        [
            ("least lead over plain codes", min(gains), min(gains) >= 0, "0"),
            ("steps that the prediction is off", max(steps), max(steps) <= 1, "1"),
        ]
    )
    sys.exit(not met)


def bits_per_weight(ffn: Ffn, estimator: Codebook | SharedCodebook) -> float:
    return 8 * estimator.bytes_per_query(*ffn.table.shape) / ffn.table.size


def plain_codes(ffn: Ffn, bits: float) -> Codebook:
    """Product quantization that spends so many bits per weight or, as little as may be, more."""
    width = ffn.table.shape[1]
    options = [Codebook(part) for part in range(1, width // 8) if width % part == 0]
    return min(options, key=lambda e: (bits_per_weight(ffn, e) < bits, bits_per_weight(ffn, e)))


def predicted_errors(ffn: Ffn) -> list[float]:
    """Error for each number of dimensions: the variance that is cut off, and that of clustering the rest.

    In the metric of the queries, summed over the parts: with equal bits for every part, a dimension that is
    kept errs by the geometric mean of the part's variances times 2^(-2 bits per dimension).
    """
    moment = second_moment(ffn.fit)
    kept, cut = np.zeros((2, len(DIMENSIONS)))
    for start in range(0, moment.shape[0] - PART + 1, PART):
        inputs = slice(start, start + PART)
        root = np.linalg.cholesky(moment[inputs, inputs])
        rows = ffn.table[:, inputs] @ root
        variances = np.linalg.eigvalsh(rows.T @ rows / len(rows))[::-1]
        for i, d in enumerate(DIMENSIONS):
            kept[i] += d * np.exp(np.mean(np.log(variances[:d]))) * 2.0 ** (-2 * BITS / d)
            cut[i] += variances[d:].sum()
    return list(kept + cut)


if __name__ == "__main__":
    main()
