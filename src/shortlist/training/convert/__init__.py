"""Dense models into mixtures of experts: one file per method, and what they share."""

from shortlist.training.convert.base import Converted, ConvertOptions, Method, Text
from shortlist.training.convert.cluster import Cluster
from shortlist.training.convert.read_me import ReadMe
from shortlist.training.convert.ternary_experts import TernaryExperts
from shortlist.training.convert.upcycle import Upcycle

METHODS: dict[str, type[Method]] = {
    "read-me": ReadMe,
    "cluster": Cluster,
    "upcycle": Upcycle,
    "ternary": TernaryExperts,
}

__all__ = [
    "METHODS",
    "Cluster",
    "ConvertOptions",
    "Converted",
    "Method",
    "ReadMe",
    "TernaryExperts",
    "Text",
    "Upcycle",
]
