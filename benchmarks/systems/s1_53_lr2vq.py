"""LR2VQ (s1-53): codebooks on a trained projection against plain product quantization at equal bytes.

About 2 bits per weight on gate and up of five feed-forward layers: one code of 8 bits for each four inputs.
Fewer dimensions with smaller parts take as many codes. Recall of the top 10 % neurons; the rank that the
variances predict to err least beside the one that recalls most. Exits with 1 where plain codes are better, or
the prediction is more than one step off.

    .venv/bin/python benchmarks/systems/s1_53_lr2vq.py [--text FILE] [--model smollm2-135m]
"""

import sys

import numpy as np
from real_tables import Ffn, arguments_of, ffn_recall, open_model, print_criteria

from shortlist.estimators import Codebook
from shortlist.estimators.defaults import score_variances

PARTS, FFN_LAYERS = (4, 3, 2, 1), 5
BITS = 8  # of a code


def main() -> None:
    arguments = arguments_of(__doc__, "smollm2-135m")
    gains, steps = [], []
    print("| layer | plain | " + " | ".join(f"part {p}" for p in PARTS) + " | predicted |")
    print("| --- | ---: |" + " ---: |" * len(PARTS) + " --- |")
    with open_model(arguments.model, arguments.text, fit=2048, test=256) as model:
        for layer in range(0, model.layers, -(-model.layers // FFN_LAYERS)):
            ffn = model.ffn(layer)
            codes = ffn.gate.shape[1] // PARTS[0]
            plain = ffn_recall(ffn, Codebook(PARTS[0]))
            recalls = [ffn_recall(ffn, Codebook(part, part * codes)) for part in PARTS]
            predicted = int(np.argmin(predicted_errors(ffn, codes)))
            gains.append(max(recalls) - plain)
            steps.append(abs(predicted - int(np.argmax(recalls))))
            cells = " | ".join(f"{r:.4f}" for r in recalls)
            print(f"| {layer} | {plain:.4f} | {cells} | part {PARTS[predicted]} |", flush=True)
    met = print_criteria(
        [
            ("least lead over plain codes", min(gains), min(gains) >= 0, "0"),
            ("steps that the prediction is off", max(steps), max(steps) <= 1, "1"),
        ]
    )
    sys.exit(not met)


def predicted_errors(ffn: Ffn, codes: int) -> list[float]:
    """Error of each part size: the variance that is cut off, and that of normal coordinates in so many bits.

    With parts of equal products of variances, every dimension that is kept errs by their geometric mean times
    2^(-2 bits per dimension).
    """
    variances = np.asarray(score_variances(ffn.table, ffn.fit))
    errors = []
    for part in PARTS:
        kept, cut = variances[: part * codes], variances[part * codes :]
        rounding = len(kept) * np.exp(np.mean(np.log(kept))) * 2.0 ** (-2 * BITS / part)
        errors.append(float(cut.sum() + rounding))
    return errors


if __name__ == "__main__":
    main()
