"""Heads for tests."""

from shortlist.estimators.low_rank import LowRank
from shortlist.sites.head import Head


def low_rank_head(rows, state, selector, cap=None):
    """The estimated head of a fitted `low_rank`, whose options follow from its state."""
    eight = state["codes"].shape[1]
    fours = 2 * state["trailing"].shape[1] if "trailing" in state else None
    estimator = LowRank(eight) if fours is None else LowRank(eight + fours, eight_bit=eight)
    return Head(rows, cap, estimator, selector, state)
