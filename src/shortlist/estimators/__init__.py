"""Estimators score all units of a table cheaply: the interface, one file per method, and their registry."""

from shortlist.estimators.base import Estimate, Estimator, State
from shortlist.estimators.bit_planes import BitPlanes
from shortlist.estimators.low_rank import LowRank
from shortlist.estimators.quantized import Quantized

ESTIMATORS: dict[str, type[Estimator]] = {
    "bit_planes": BitPlanes,
    "low_rank": LowRank,
    "quantized": Quantized,
}

__all__ = ["ESTIMATORS", "BitPlanes", "Estimate", "Estimator", "LowRank", "Quantized", "State"]
