"""AdaDim (s1-3): scales per group or per input channel, chosen for each layer by reconstruction error.

Recall of the top 10 % neurons among the top 20 % by estimate, in every feed-forward layer, with gate and up
estimated in 3 bits. Both groupings take the same bytes. Exits with 1 where the chosen one is more than 0.2
points behind the better one in any layer.

    .venv/bin/python lab/systems/s1_3_adaptive_scales.py [--text FILE] [--model smollm2-135m]
"""

import sys

from real_tables import arguments_of, ffn_recall, open_model, print_criteria

from shortlist.estimators.quantized import Quantized, choose_scales

BITS = 3


def main() -> None:
    arguments = arguments_of(__doc__, "smollm2-135m")
    behind = []
    print("| layer | group | input | chosen |\n| ---: | ---: | ---: | --- |")
    with open_model(arguments.model, arguments.text, fit=1024, test=256) as model:
        for layer in range(model.layers):
            ffn = model.ffn(layer)
            chosen = choose_scales(ffn.table, ffn.fit, BITS).scales
            recalls = {
                "group": ffn_recall(ffn, Quantized(BITS, "group")),
                "input": ffn_recall(ffn, Quantized(BITS, "input")),
            }
            behind.append(max(recalls.values()) - recalls[chosen])
            print(f"| {layer} | {recalls['group']:.4f} | {recalls['input']:.4f} | {chosen} |", flush=True)
    worst = max(behind)
    met = print_criteria([("most that the choice is behind in a layer", worst, worst <= 0.002, "0.002")])
    sys.exit(not met)


if __name__ == "__main__":
    main()
