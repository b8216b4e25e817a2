"""Gates, one file each: token states in, a shortlist of experts with weights out.

`GATES[name](width, experts, ...)` makes a gate; `WRAPPERS[name](gate, ...)` wraps one.
"""

from shortlist.torch.gates.activation import Activation
from shortlist.torch.gates.base import Gate, Routing, Wrapper
from shortlist.torch.gates.comet import Comet
from shortlist.torch.gates.constant_norm import ConstantNorm
from shortlist.torch.gates.dual_price import DualPrice
from shortlist.torch.gates.evomoe import EvoMoE
from shortlist.torch.gates.expert_choice import ExpertChoice
from shortlist.torch.gates.gumbel import Gumbel
from shortlist.torch.gates.hash import Hash
from shortlist.torch.gates.k_means import KMeans
from shortlist.torch.gates.l1 import L1
from shortlist.torch.gates.noisy_top_k import NoisyTopK
from shortlist.torch.gates.norm_threshold import NormThreshold
from shortlist.torch.gates.permuted import Permuted
from shortlist.torch.gates.random import Random
from shortlist.torch.gates.sigmoid import Sigmoid
from shortlist.torch.gates.softmax import SoftmaxTopK
from shortlist.torch.gates.temperature import Temperature

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
