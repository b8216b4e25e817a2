"""Interval bounds (s2-38): a bound of one layer certifies the shortlist of a head.

Every position: the dense winner is on the certified shortlist, and no dense value lies outside its interval.
Exits with 1 where either fails once.

    .venv/bin/python lab/systems/s2_38_certified.py [--text FILE] [--model smollm2-135m]
"""

import sys

import numpy as np
from real_tables import arguments_of, open_model, print_criteria

from shortlist.sites.head import Head, exact_head


def main() -> None:
    arguments = arguments_of(__doc__, "smollm2-135m")
    with open_model(arguments.model, arguments.text, fit=64, test=1024) as model:
        head = model.head()
    dense, exact = Head(head.rows), exact_head(head.rows)
    rows, outside, different = [], 0, 0
    for query in head.test:
        values, _ = dense.logits(query)
        lower, upper = exact.bounds(query)
        outside += int(np.sum((values < lower) | (values > upper)))
        token, read = exact.argmax(query)
        different += token != int(np.argmax(values))
        rows.append(read.rows / head.rows.rows)
    print(f"{len(head.test)} positions; rows read: median {np.median(rows):.3%}, mean {np.mean(rows):.3%}")
    met = print_criteria(
        [
            ("values outside their interval", outside, outside == 0, "0"),
            ("winners that differ", different, different == 0, "0"),
        ]
    )
    sys.exit(not met)


if __name__ == "__main__":
    main()
