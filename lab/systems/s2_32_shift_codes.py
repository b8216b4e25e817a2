"""DenseShift (s2-32): codes that are a sign and a shift, without zero, against evenly spaced ones in 3 bits.

Recall of the top 10 % neurons in five feed-forward layers, and of the best and the best 32 rows of the head
among the best 1 % by estimate. Exits with 1 where shifts are more than 0.5 points behind anywhere.

    .venv/bin/python lab/systems/s2_32_shift_codes.py [--text FILE] [--model smollm2-135m]
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

from shortlist.estimators.quantized import Quantized

BITS, FFN_LAYERS = 3, 5
EVEN, SHIFT = Quantized(BITS), Quantized(BITS, code="shift")


def main() -> None:
    arguments = arguments_of(__doc__, "smollm2-135m")
    measured: list[tuple[str, float, float]] = []
    with open_model(arguments.model, arguments.text, fit=1024, test=256) as model:
        for layer in range(0, model.layers, -(-model.layers // FFN_LAYERS)):
            ffn = model.ffn(layer)
            measured.append((f"FFN of layer {layer}", ffn_recall(ffn, EVEN), ffn_recall(ffn, SHIFT)))
        head = model.head()
        wanted = best_units(head_values(head, head.test), 32)
        kept = head.rows.rows // 100
        states = [(estimator, estimator.fit(head.rows, head.fit)) for estimator in (EVEN, SHIFT)]
        for count in (1, 32):
            even, shift = (head_recall(head, e, s, wanted[:, :count], kept) for e, s in states)
            measured.append((f"head, top {count}", even, shift))
    print("| | even | shift |\n| --- | ---: | ---: |")
    for name, even, shift in measured:
        print(f"| {name} | {even:.4f} | {shift:.4f} |")
    worst = max(even - shift for _, even, shift in measured)
    sys.exit(not print_criteria([("most that shifts are behind", worst, worst <= 0.005, "0.005")]))


if __name__ == "__main__":
    main()
