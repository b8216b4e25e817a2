"""Selectors turn scores into a shortlist: the interface, one file per method, and their registry."""

from shortlist.selectors.base import Selector, Shortlist
from shortlist.selectors.certified import Certified
from shortlist.selectors.confidence import Confidence
from shortlist.selectors.top_k import TopK

SELECTORS: dict[str, type[Selector]] = {
    "certified": Certified,
    "confidence": Confidence,
    "top_k": TopK,
}

__all__ = ["SELECTORS", "Certified", "Confidence", "Selector", "Shortlist", "TopK"]
