"""Turns mixture-of-experts blocks of `transformers` models into `MoE` layers with the same parameters."""

from typing import Any

import torch
from torch import Tensor, nn

from shortlist.errors import UsageError
from shortlist.torch.activations import ACTIVATIONS
from shortlist.torch.experts import ExpertBank, Experts
from shortlist.torch.gates import Gate, Routing
from shortlist.torch.losses import load_balance, router_z
from shortlist.torch.moe import MoE


class AdoptedGate(Gate):
    """The router of a `transformers` block, unchanged, behind the interface of a gate.

    Its parameters keep their names in a state dict: `gate.weight`, not `gate.router.weight`. It gives the
    losses `load_balance` and `router_z`.

    Parameters
    ----------
    router
        Maps states to logits [tokens, experts] and to weights and experts [tokens, k].
    """

    gives = frozenset({"load_balance", "router_z"})

    def __init__(self, router: nn.Module):
        weight = router.get_parameter("weight")
        super().__init__(width=weight.shape[1], experts=weight.shape[0])
        self.router = router
        self.register_state_dict_post_hook(_drop_prefix)
        self.register_load_state_dict_pre_hook(_add_prefix)

    def estimate(self, x: Tensor) -> Tensor:
        """Router logits."""
        return self.router(x)[0]

    def select(self, scores: Tensor) -> Routing:
        raise NotImplementedError("the router of a transformers block estimates and selects at once")

    def forward(self, x: Tensor, token_ids: Tensor | None = None) -> Routing:
        """The experts that the router chose; losses only where gradients are on, as decoding needs none."""
        logits, weights, experts = self.router(x)
        losses = {}
        if torch.is_grad_enabled():
            probabilities = logits.float().softmax(-1)
            losses = {
                "load_balance": load_balance(probabilities, experts, self.group),
                "router_z": router_z(logits),
            }
        return Routing.of_top_k(weights, experts, self.experts, losses=losses)


def _drop_prefix(_gate: nn.Module, state: dict[str, Tensor], prefix: str, _meta: object) -> None:
    for name in [name for name in state if name.startswith(f"{prefix}router.")]:
        state[prefix + name.removeprefix(f"{prefix}router.")] = state.pop(name)


def _add_prefix(_gate: nn.Module, state: dict[str, Tensor], prefix: str, *_: object) -> None:
    for name in [name for name in state if name.startswith(prefix)]:
        if not name.startswith(f"{prefix}router."):
            state[f"{prefix}router.{name.removeprefix(prefix)}"] = state.pop(name)


SHARED = ("shared_expert", "shared_expert_gate")
FAMILIES = {
    "Mixtral": (),
    "MiniMax": (),
    "Mellum": (),
    "Olmoe": (),
    "FlexOlmo": (),
    "Qwen2Moe": SHARED,
    "Qwen3Moe": (),
    "Qwen3Next": SHARED,
    "Qwen3_5Moe": SHARED,
    "Qwen3VLMoeText": (),
    "Qwen3OmniMoeThinkerText": (),
    "Qwen3OmniMoeTalkerText": SHARED,
    "Qwen4ExpText": SHARED,
}
"""Prefix of a family's class names in `transformers`, and the parts of its blocks besides gate and experts.
A test compares each with its own block, and sees that all other classes are refused."""


def adopt(block: nn.Module) -> MoE:
    """Make the layer that computes the same as a `transformers` block of one of the `FAMILIES`.

    It shares the block's parameters under the same names, so `transformers` loads a saved state dict again.
    Use it with `patch`: `patch(model, lambda index, block: adopt(block))`.

    Raises
    ------
    UsageError
        The block is of an unknown class, or has been changed.
    """
    _check_classes(block)
    source: Any = block.experts
    name = type(block).__name__
    if getattr(block, "jitter_noise", 0):
        raise UsageError(
            f"{name} trains with router_jitter_noise {block.jitter_noise}, which adopt does not add: "
            "set its jitter_noise to 0 first"
        )
    if source._is_expert_parallel:
        raise UsageError(f"{name} holds a part of its experts: adopt it before it is split among processes")
    if source.config.hidden_act not in ACTIVATIONS:
        raise UsageError(
            f"{name} with hidden_act {source.config.hidden_act!r} cannot be adopted: "
            f"only {', '.join(sorted(ACTIVATIONS))} can"
        )
    up, down = source.gate_up_proj, source.down_proj
    if not (
        up.is_floating_point()
        and down.dim() == 3
        and up.shape == (len(down), 2 * down.shape[2], down.shape[1])
    ):
        raise UsageError(f"the experts of {name} are quantized: adopt them first, then use quantize_experts")
    count, width, hidden = down.shape
    with torch.device("meta"):
        experts = Experts(count, width, hidden, source.config.hidden_act)
    experts.gate_up_proj, experts.down_proj = up, down
    return around(block, experts)


def around(block: nn.Module, experts: ExpertBank) -> MoE:
    """Make a layer from a block's router and shared expert, with other experts instead of its own."""
    return MoE(
        AdoptedGate(block.get_submodule("gate")),
        experts,
        shared=getattr(block, "shared_expert", None),
        shared_gate=getattr(block, "shared_expert_gate", None),
    )


def _check_classes(block: nn.Module) -> None:
    """Raise `UsageError` unless a block and its parts have exactly the classes of a known family."""
    name = type(block).__name__
    family = name.removesuffix("SparseMoeBlock")
    parts = dict(block.named_children())
    if family == name or family not in FAMILIES or not _of_transformers(block):
        raise UsageError(
            f"{name} cannot be adopted: adopt takes the blocks of {', '.join(FAMILIES)} of transformers"
        )
    if parts.keys() != {"gate", "experts", *FAMILIES[family]}:
        raise UsageError(f"{name} has other parts than adopt knows ({', '.join(parts)}): adopt it unchanged")
    for part, expected in (("gate", f"{family}TopKRouter"), ("experts", f"{family}Experts")):
        if type(parts[part]).__name__ != expected or not _of_transformers(parts[part]):
            raise UsageError(
                f"{name} with a {type(parts[part]).__name__} in place of {expected} cannot be adopted: "
                "adopt it before it is changed"
            )


def _of_transformers(module: nn.Module) -> bool:
    return type(module).__module__.startswith("transformers.models.")
