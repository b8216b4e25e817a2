"""Which estimators and selectors have native kernels at the head, and how these are made from their state."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, cast

import numpy as np

from shortlist import _native
from shortlist.estimators.int8_codes import GROUP
from shortlist.selectors.base import Selector
from shortlist.sites.base import Part

if TYPE_CHECKING:
    from shortlist.estimators.low_rank import LowRank
    from shortlist.estimators.mixed_width import MixedWidth


def scorer_of(part: Part, rows: _native.Rows) -> _native.Scorer | None:
    """The native kernel of a part's estimator, over these rows; None where it has none."""
    make = SCORERS.get(part.estimator.name)
    return make(part, rows) if make else None


def policy_of(selector: Selector) -> _native.Policy | None:
    """The native twin of a selector, as far as the greedy token goes; None where it has none."""
    make = POLICIES.get(selector.name)
    return make(selector) if make else None


def _low_rank(part: Part, rows: _native.Rows) -> _native.Scorer:
    state, estimator = part.state, cast("LowRank", part.estimator)
    codes = _codes(*(state.get(name) for name in ("codes", "scales", "trailing", "trailing_scales")))
    return _native.LowRank(
        _projection(state), [codes], state["residual"], estimator.rank, np.empty(0, np.int32)
    )


def _mixed_width(part: Part, rows: _native.Rows) -> _native.Scorer:
    state, ranks = part.state, cast("MixedWidth", part.estimator).ranks
    groups = [_codes(state[f"codes.{g}"], state[f"scales.{g}"]) for g in range(len(ranks))]
    row_at = np.argsort(state["order"]).astype(np.int32)
    return _native.LowRank(_projection(state), groups, state["residual"], max(ranks), row_at)


def _projection(state: Mapping[str, np.ndarray]) -> _native.Rows:
    # Float16 halves what the projection costs per token and adds far less error than the int8 codes.
    projection = np.ascontiguousarray(state["projection"], np.float16)
    return _native.Rows.pack(projection.view(np.uint8).reshape(-1), "F16", *projection.shape)


def _codes(
    codes: Any, scales: Any, trailing: np.ndarray | None = None, trailing_scales: np.ndarray | None = None
) -> _native.Codes:
    nothing = np.empty((len(codes), 0))
    codes = np.pad(codes, ((0, 0), (0, -codes.shape[1] % GROUP)))  # whole groups
    fours = np.ascontiguousarray(nothing if trailing is None else trailing, np.uint8)
    four_scales = np.ascontiguousarray(nothing if trailing_scales is None else trailing_scales, np.float16)
    scales = np.ascontiguousarray(scales)
    return _native.Codes(codes, scales.view(np.uint16), fours, four_scales.view(np.uint16))


SCORERS: dict[str, Callable[[Part, _native.Rows], _native.Scorer]] = {
    "bit_planes": lambda part, rows: _native.UpperPlanes(rows),
    "exact": lambda part, rows: _native.ExactProducts(rows),
    "low_rank": _low_rank,
    "mixed_width": _mixed_width,
}
"""Estimators that have a native kernel at the head."""

POLICIES: dict[str, Callable[[Any], _native.Policy]] = {
    "certified": lambda one: _native.Policy.probes(1.0, None, one.probes),
    "confidence": lambda one: _native.Policy.probes(one.sigma, one.most, one.probes),
    "threshold": lambda one: _native.Policy.threshold(one.threshold, one.sigma),
    "top_k": lambda one: _native.Policy.kth_best(one.fetch or one.count),
}
"""Selectors that have a native twin at the head.

A greedy token is the best of what was read, so how many of these rows `top_k` keeps makes no difference.
"""
