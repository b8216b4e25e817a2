"""Neural collapse with many classes (s3-2): the margin of the best row decides between few rows and all.

Greedy tokens of a head with the margin selector, its margin set on other positions so that at most one in a
thousand is lost there, beside the confidence selector on the same estimates: those fitted to the rows as they
are, and those fitted to rows of length 1, whose scores are multiplied by the lengths. Exits with 1 where
the margin loses more than that, or reads more rows than `confidence` at 6 sigma.

    .venv/bin/python lab/systems/s3_2_margin.py [--text FILE] [--model smollm2-135m]
"""

import sys
from collections.abc import Iterator

import numpy as np
from real_tables import BATCH, Head, arguments_of, head_values, open_model, print_criteria

from shortlist.estimators import LowRank, Scores, State
from shortlist.selectors import Confidence, Margin, Selector

RANK, FETCHES, LOST = 64, (64, 256, 1024), 0.001


def main() -> None:
    arguments = arguments_of(__doc__, "smollm2-135m")
    with open_model(arguments.model, arguments.text, fit=4096, test=1024) as model:
        head = model.head()
    table = head.rows.unpack(np.arange(head.rows.rows, dtype=np.int32))
    lengths = np.linalg.norm(table, axis=1)
    print("| rows | selector | winner kept | rows read, mean | all rows read |")
    print("| --- | --- | ---: | ---: | ---: |")
    measured = measure(head, table, np.ones_like(lengths), "as they are")
    measured += measure(head, table / lengths[:, None], lengths, "of length 1")
    kept, read = max((kept, -read) for selector, kept, read in measured if isinstance(selector, Margin))
    limit = max(read for selector, _, read in measured if selector == Confidence(6.0))
    met = print_criteria(
        [
            ("winners kept by the best margin", kept, kept >= 1 - LOST, f"{1 - LOST}"),
            ("rows that it reads", -read, -read <= limit, f"{limit:.4f}"),
        ]
    )
    sys.exit(not met)


def measure(
    head: Head, table: np.ndarray, lengths: np.ndarray, rows: str
) -> list[tuple[Selector, float, float]]:
    """Each selector's share of winners kept and of rows read, for estimates of `table` times `lengths`."""
    estimator = LowRank(RANK)
    calibration, test = head.fit[-1024:], head.test
    state = estimator.fit(table, head.fit[:-1024])
    leads = leads_that_mislead(positions(head, estimator, state, lengths, calibration))
    selectors: list[Selector] = [Margin(f, lead + 1e-6) for f, lead in zip(FETCHES, leads, strict=True)]
    selectors += [Confidence(5.0), Confidence(6.0)]

    kept = {selector: [] for selector in selectors}
    read = {selector: [] for selector in selectors}
    for estimate, exact in positions(head, estimator, state, lengths, test):
        winner = int(np.argmax(exact))
        for selector in selectors:
            shortlist = selector.select(estimate, lambda indices, values=exact: values[indices])
            kept[selector].append(winner in shortlist.indices)
            read[selector].append(shortlist.rows_read / len(exact))
    for s in selectors:
        dense = np.mean(np.array(read[s]) == 1)
        print(f"| {rows} | {s} | {np.mean(kept[s]):.4f} | {np.mean(read[s]):.2%} | {dense:.2%} |", flush=True)
    return [(s, float(np.mean(kept[s])), float(np.mean(read[s]))) for s in selectors]


def leads_that_mislead(known: Iterator[tuple[Scores, np.ndarray]]) -> list[float]:
    """For each fetch the lead above which the winner was not fetched at a share LOST of the positions."""
    leads: list[list[float]] = [[] for _ in FETCHES]
    count = 0
    for estimate, exact in known:
        count += 1
        order = np.argsort(-estimate.values, kind="stable")
        for fetch, found in zip(FETCHES, leads, strict=True):
            if np.argmax(exact) not in order[:fetch]:
                found.append(float(exact[order[:fetch]].max() - estimate.values[order[fetch]]))
    allowed = int(LOST * count)
    return [
        max(0.0, sorted(found, reverse=True)[allowed]) if len(found) > allowed else 0.0 for found in leads
    ]


def positions(
    head: Head, estimator: LowRank, state: State, lengths: np.ndarray, queries: np.ndarray
) -> Iterator[tuple[Scores, np.ndarray]]:
    """Estimate and exact values of each query."""
    for start in range(0, len(queries), BATCH):
        part = queries[start : start + BATCH]
        batch = estimator.score(state, part)
        values, spread = batch.values * lengths, batch.reach() * lengths
        for estimated, error, exact in zip(values, spread, head_values(head, part), strict=True):
            yield Scores(estimated, error), exact


if __name__ == "__main__":
    main()
