"""Estimators score all units of a table cheaply: the interface, one file per method, and their registry."""

from typing import TYPE_CHECKING, Any

from shortlist.estimators.base import Estimator, Scores, State
from shortlist.registry import Registry

if TYPE_CHECKING:
    from shortlist.estimators.bit_planes import BitPlanes
    from shortlist.estimators.codebook import Codebook
    from shortlist.estimators.exact import Exact
    from shortlist.estimators.int4_copy import Int4Copy
    from shortlist.estimators.low_rank import LowRank
    from shortlist.estimators.low_rank_sparse import LowRankSparse
    from shortlist.estimators.magnitude import Magnitude
    from shortlist.estimators.mixed_width import MixedWidth
    from shortlist.estimators.neighbour import Neighbour
    from shortlist.estimators.quantized import Quantized
    from shortlist.estimators.random import Random
    from shortlist.estimators.shared_codebook import SharedCodebook
    from shortlist.estimators.sketch import Sketch

ESTIMATORS: Registry[type[Estimator]] = Registry(
    "shortlist.estimators",
    {
        "bit_planes": "bit_planes:BitPlanes",
        "codebook": "codebook:Codebook",
        "exact": "exact:Exact",
        "int4_copy": "int4_copy:Int4Copy",
        "low_rank": "low_rank:LowRank",
        "low_rank_sparse": "low_rank_sparse:LowRankSparse",
        "magnitude": "magnitude:Magnitude",
        "mixed_width": "mixed_width:MixedWidth",
        "neighbour": "neighbour:Neighbour",
        "quantized": "quantized:Quantized",
        "random": "random:Random",
        "shared_codebook": "shared_codebook:SharedCodebook",
        "sketch": "sketch:Sketch",
    },
)

__all__ = [
    "ESTIMATORS",
    "BitPlanes",
    "Codebook",
    "Estimator",
    "Exact",
    "Int4Copy",
    "LowRank",
    "LowRankSparse",
    "Magnitude",
    "MixedWidth",
    "Neighbour",
    "Quantized",
    "Random",
    "Scores",
    "SharedCodebook",
    "Sketch",
    "State",
]


def __getattr__(name: str) -> Any:
    return ESTIMATORS.by_class(name)
