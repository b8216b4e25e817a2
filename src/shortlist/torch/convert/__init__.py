"""Converts dense models into mixtures of experts: one file per method, and their shared parts."""

from shortlist.torch.convert.base import Converted, ConvertOptions, Method, Text
from shortlist.torch.convert.cluster import Cluster
from shortlist.torch.convert.read_me import ReadMe
from shortlist.torch.convert.ternary_experts import TernaryExperts
from shortlist.torch.convert.upcycle import Upcycle

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
