"""Selectors turn scores into a shortlist: the interface, one file per method, and their registry."""

from typing import TYPE_CHECKING, Any

from shortlist.registry import Registry
from shortlist.selectors.base import Selector, Shortlist

if TYPE_CHECKING:
    from shortlist.selectors.certified import Certified
    from shortlist.selectors.confidence import Confidence
    from shortlist.selectors.grouped_top_k import GroupedTopK
    from shortlist.selectors.margin import Margin
    from shortlist.selectors.score_mass import ScoreMass
    from shortlist.selectors.statistical_top_k import StatisticalTopK
    from shortlist.selectors.threshold import Threshold
    from shortlist.selectors.top_k import TopK
    from shortlist.selectors.two_stage_top_k import TwoStageTopK

SELECTORS: Registry[type[Selector]] = Registry(
    "shortlist.selectors",
    {
        "certified": "certified:Certified",
        "confidence": "confidence:Confidence",
        "grouped_top_k": "grouped_top_k:GroupedTopK",
        "margin": "margin:Margin",
        "score_mass": "score_mass:ScoreMass",
        "statistical_top_k": "statistical_top_k:StatisticalTopK",
        "threshold": "threshold:Threshold",
        "top_k": "top_k:TopK",
        "two_stage_top_k": "two_stage_top_k:TwoStageTopK",
    },
)

__all__ = [
    "SELECTORS",
    "Certified",
    "Confidence",
    "GroupedTopK",
    "Margin",
    "ScoreMass",
    "Selector",
    "Shortlist",
    "StatisticalTopK",
    "Threshold",
    "TopK",
    "TwoStageTopK",
]


def __getattr__(name: str) -> Any:
    return SELECTORS.by_class(name)
