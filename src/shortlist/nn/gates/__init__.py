"""Gates, one file each: token states in, a shortlist of experts with weights out.

`GATES` are made by `GATES[name](width, experts, ...)`; `WRAPPERS` go around any of them.
"""

from shortlist.nn.gates.activation import Activation
from shortlist.nn.gates.base import Gate, Routing, Wrapper
from shortlist.nn.gates.comet import Comet
from shortlist.nn.gates.constant_norm import ConstantNorm
from shortlist.nn.gates.dual_price import DualPrice
from shortlist.nn.gates.evomoe import EvoMoE
from shortlist.nn.gates.expert_choice import ExpertChoice
from shortlist.nn.gates.gumbel import Gumbel
from shortlist.nn.gates.hash import Hash
from shortlist.nn.gates.k_means import KMeans
from shortlist.nn.gates.l1 import L1
from shortlist.nn.gates.noisy_top_k import NoisyTopK
from shortlist.nn.gates.norm_threshold import NormThreshold
from shortlist.nn.gates.permuted import Permuted
from shortlist.nn.gates.random import Random
from shortlist.nn.gates.sigmoid import Sigmoid
from shortlist.nn.gates.softmax import SoftmaxTopK
from shortlist.nn.gates.temperature import Temperature

GATES: dict[str, type[Gate]] = {
    "softmax": SoftmaxTopK,
    "noisy_top_k": NoisyTopK,
    "sigmoid": Sigmoid,
    "dual_price": DualPrice,
    "expert_choice": ExpertChoice,
    "temperature": Temperature,
    "activation": Activation,
    "evomoe": EvoMoE,
    "comet": Comet,
    "k_means": KMeans,
    "gumbel": Gumbel,
    "l1": L1,
    "norm_threshold": NormThreshold,
    "hash": Hash,
    "random": Random,
}
WRAPPERS: dict[str, type[Wrapper]] = {
    "constant_norm": ConstantNorm,
    "permuted": Permuted,
}

__all__ = [
    "GATES",
    "L1",
    "WRAPPERS",
    "Activation",
    "Comet",
    "ConstantNorm",
    "DualPrice",
    "EvoMoE",
    "ExpertChoice",
    "Gate",
    "Gumbel",
    "Hash",
    "KMeans",
    "NoisyTopK",
    "NormThreshold",
    "Permuted",
    "Random",
    "Routing",
    "Sigmoid",
    "SoftmaxTopK",
    "Temperature",
    "Wrapper",
]
