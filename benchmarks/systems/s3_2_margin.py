"""Neural collapse with many classes (s3-2): the margin of the best row decides between few rows and all.

Greedy tokens of a head with the margin selector, its margin set on other positions so that at most one in a
thousand is lost there, beside the confidence selector on the same estimates.

    .venv/bin/python benchmarks/systems/s3_2_margin.py [--text FILE] [--model smollm2-135m]
"""

from collections.abc import Iterator

import numpy as np
from real_tables import BATCH, Head, arguments_of, head_values, open_model

from shortlist.estimators import Estimate, LowRank, State
from shortlist.selectors import Confidence, Margin, Selector

RANK, FETCHES, LOST = 64, (64, 256, 1024), 0.001


def main() -> None:
    arguments = arguments_of(__doc__, "smollm2-135m")
    with open_model(arguments.model, arguments.text, fit=4096, test=1024) as model:
        head = model.head()
    estimator = LowRank(RANK)
    calibration, test = head.fit[-1024:], head.test
    state = estimator.fit(head.rows, head.fit[:-1024])
    leads = leads_that_mislead(head, estimator, state, calibration)
    selectors: list[Selector] = [Margin(f, lead + 1e-6) for f, lead in zip(FETCHES, leads, strict=True)]
    selectors += [Confidence(5.0), Confidence(6.0)]

    kept = {selector: [] for selector in selectors}
    read = {selector: [] for selector in selectors}
    for estimate, exact in positions(head, estimator, state, test):
        winner = int(np.argmax(exact))
        for selector in selectors:
            shortlist = selector.select(estimate, lambda indices, values=exact: values[indices])
            kept[selector].append(winner in shortlist.indices)
            read[selector].append(shortlist.rows_read / len(exact))
    print("| selector | winner kept | rows read, mean | all rows read |\n| --- | ---: | ---: | ---: |")
    for selector in selectors:
        dense = np.mean(np.array(read[selector]) == 1)
        print(f"| {selector} | {np.mean(kept[selector]):.4f} | {np.mean(read[selector]):.2%} | {dense:.2%} |")


def leads_that_mislead(head: Head, estimator: LowRank, state: State, queries: np.ndarray) -> list[float]:
    """For each fetch the lead above which the winner was not fetched at a share LOST of the positions."""
    leads: list[list[float]] = [[] for _ in FETCHES]
    for estimate, exact in positions(head, estimator, state, queries):
        order = np.argsort(-estimate.values, kind="stable")
        for fetch, found in zip(FETCHES, leads, strict=True):
            if np.argmax(exact) not in order[:fetch]:
                found.append(float(exact[order[:fetch]].max() - estimate.values[order[fetch]]))
    allowed = int(LOST * len(queries))
    return [
        max(0.0, sorted(found, reverse=True)[allowed]) if len(found) > allowed else 0.0 for found in leads
    ]


def positions(
    head: Head, estimator: LowRank, state: State, queries: np.ndarray
) -> Iterator[tuple[Estimate, np.ndarray]]:
    """Estimate and exact values of each query."""
    for start in range(0, len(queries), BATCH):
        part = queries[start : start + BATCH]
        batch = estimator.estimate(state, part)
        for values, spread, exact in zip(batch.values, batch.spread, head_values(head, part), strict=True):
            yield Estimate(values, spread), exact


if __name__ == "__main__":
    main()
