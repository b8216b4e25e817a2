"""FastRP (s1-59): very sparse random projections of a head against Gaussian ones of equal width.

Recall of the best row and the best 32 among the best 1 % by estimate, on some of the rows. A draw decides
more than the method does (a head scored by one has 0.1 or 0.5), so both are means of many draws, and their
difference stands beside its standard error. Exits with 1 where the sparse one is more than a point behind by
more than two of these, or needs more than a fifth of the multiply-adds.

    .venv/bin/python lab/systems/s1_59_fastrp.py [--text FILE] [--model smollm2-135m]
"""

import sys

import numpy as np
from real_tables import arguments_of, best_units, open_model, print_criteria, recall_within

from shortlist.estimators import Sketch
from shortlist.estimators.base import some_rows, table_rows

ROWS, WIDTHS, DRAWS, WANTED = 16_384, (64, 256), 100, 32


def main() -> None:
    arguments = arguments_of(__doc__, "smollm2-135m")
    with open_model(arguments.model, arguments.text, fit=64, test=128) as model:
        head = model.head()
    table = table_rows(head.rows, some_rows(head.rows.rows, ROWS), like=head.test)
    wanted, kept = best_units(head.test @ table.T, WANTED), len(table) // 100
    print(f"{len(table)} of {head.rows.rows} rows, {len(head.test)} positions, {DRAWS} draws\n")
    print("| width | rows wanted | sparse | Gaussian | behind |\n| ---: | ---: | ---: | ---: | ---: |")
    least_behind = []
    for width in WIDTHS:
        recalls = np.empty((2, DRAWS, 2))  # of sparse and Gaussian: of the best row, of all that are wanted
        for seed in range(DRAWS):
            for method, values in enumerate(
                (sparse(table, head.test, width, seed), gaussian(table, head.test, width, seed))
            ):
                recalls[method, seed] = [recall_within(values, wanted[:, :n], kept) for n in (1, WANTED)]
        means, errors = recalls.mean(axis=1), recalls.std(axis=1) / DRAWS**0.5
        behind, error = means[1] - means[0], np.hypot(*errors)
        least_behind += list(behind - 2 * error)
        for i, count in enumerate((1, WANTED)):
            print(
                f"| {width} | {count} | {means[0, i]:.4f} | {means[1, i]:.4f} | "
                f"{behind[i]:.4f} +- {error[i]:.4f} |",
                flush=True,
            )
    adds = head.rows.cols / Sketch(1).layout(1, head.rows.cols)["places"][1][1]
    worst = max(least_behind)
    met = print_criteria(
        [
            ("most that sparse is surely behind", worst, worst <= 0.01, "0.01"),
            ("multiply-adds of Gaussian / sparse", adds, adds >= 5, "at least 5"),
        ]
    )
    sys.exit(not met)


def sparse(table: np.ndarray, queries: np.ndarray, width: int, seed: int) -> np.ndarray:
    """Estimates [queries, rows] through sparse sums."""
    sketch = Sketch(width, seed=seed)
    return sketch.score(sketch.fit(table, queries), queries).values


def gaussian(table: np.ndarray, queries: np.ndarray, width: int, seed: int) -> np.ndarray:
    """Estimates [queries, rows] through a dense Gaussian projection."""
    rng = np.random.default_rng(seed)
    directions = rng.standard_normal((table.shape[1], width)).astype(np.float32)
    return (queries @ directions / width) @ (table @ directions).T


if __name__ == "__main__":
    main()
