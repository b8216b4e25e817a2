"""Takes over the mixture-of-experts blocks of `transformers` models, with their parameters as they are."""

from typing import Any

import torch
from torch import Tensor, nn

from shortlist.errors import UsageError
from shortlist.nn.experts import Experts
from shortlist.nn.gates import Gate, Routing
from shortlist.nn.losses import load_balance, router_z
from shortlist.nn.moe import MoE


class AdoptedGate(Gate):
    """The router of a `transformers` block, which goes on to compute what it did.

    In a state dict its parameters keep the names that they have there: `gate.weight`, not
    `gate.router.weight`. Gives the losses `load_balance` and `router_z`.

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
        """The router's choice; losses where gradients are wanted, as decoding has no use for them."""
        logits, weights, experts = self.router(x)
        losses = {}
        if torch.is_grad_enabled():
            probabilities = logits.float().softmax(-1)
            losses = {"load_balance": load_balance(probabilities, experts), "router_z": router_z(logits)}
        return Routing.of_top_k(weights, experts, self.experts, losses=losses)


def _drop_prefix(_gate: nn.Module, state: dict[str, Tensor], prefix: str, _meta: object) -> None:
    for name in [name for name in state if name.startswith(f"{prefix}router.")]:
        state[prefix + name.removeprefix(f"{prefix}router.")] = state.pop(name)


def _add_prefix(_gate: nn.Module, state: dict[str, Tensor], prefix: str, *_: object) -> None:
    for name in [name for name in state if name.startswith(prefix)]:
        if not name.startswith(f"{prefix}router."):
            state[f"{prefix}router.{name.removeprefix(prefix)}"] = state.pop(name)


def adopt(block: nn.Module) -> MoE:
    """The layer that computes what a block of Mixtral, Qwen2-MoE, Qwen3-MoE or OLMoE computes.

    Its parameters are the block's own, and have the same names in a state dict: what is saved loads in
    `transformers` again. To be used with `patch`, as `patch(model, lambda index, block: adopt(block))`.

    Raises
    ------
    UsageError
        The block is of another kind.
    """
    parts = ("gate", "experts", "experts.gate_up_proj", "experts.down_proj", "experts.config")
    if any(_find(block, part) is None for part in parts) or _find(block, "gate.weight") is None:
        raise UsageError(
            f"{type(block).__name__} is no mixture-of-experts block that is known here: "
            "adopt takes those of Mixtral, Qwen2-MoE, Qwen3-MoE and OLMoE"
        )
    source: Any = block.get_submodule("experts")
    count, width, hidden = source.down_proj.shape
    with torch.device("meta"):
        experts = Experts(count, width, hidden, source.config.hidden_act)
    experts.gate_up_proj, experts.down_proj = source.gate_up_proj, source.down_proj
    return MoE(
        AdoptedGate(block.get_submodule("gate")),
        experts,
        shared=_find(block, "shared_expert"),
        shared_gate=_find(block, "shared_expert_gate"),
    )


def _find(found: Any, path: str) -> Any:
    for name in path.split("."):
        found = getattr(found, name, None)
    return found
