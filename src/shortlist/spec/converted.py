"""Reads the mixtures of a model that `shortlist convert` made (docs/converted-checkpoints.md)."""

import math

from shortlist.spec.config import MixtureConfig
from shortlist.spec.mixtures import MAX_EXPERTS
from shortlist.spec.settings import MAX_FFN_WIDTH, Settings

FORMAT = 1
_MAX_ROUTER = 1 << 16


def converted_mixture(settings: Settings, layers: int) -> MixtureConfig | None:
    """Read the mixtures of a converted model; None for another model.

    Raises
    ------
    CheckpointError
        A setting is missing, absurd or not supported.
    """
    if "shortlist" not in settings:
        return None
    own = settings.part("shortlist")
    if own.get("format") != FORMAT:
        own.fail("shortlist.format", f"is {own.get('format')!r:.20}, and {FORMAT} is known: update shortlist")
    moe = own.part("moe")
    gate = moe.part("gate")
    experts = moe.integer("experts", MAX_EXPERTS)
    per_token, margin, router_width, router_rank = None, 0.0, 0, 0
    match gate.one_of("kind", ("softmax", "dual_price", "norm_threshold", "shared_router")):
        case "softmax" | "dual_price":
            per_token = gate.integer("k", experts)
        case "norm_threshold":
            router_width = gate.integer("width", _MAX_ROUTER)
            tau = gate.positive("tau")
            if tau > 1:
                gate.fail("tau", f"is {tau}, but must be at most 1")
            margin = math.log(tau)
        case _:
            per_token = gate.integer("k", 1)
            router_rank = gate.integer("width", _MAX_ROUTER)
    return MixtureConfig(
        layers=_layers(moe, layers),
        experts=experts,
        width=moe.integer("expert_width", MAX_FFN_WIDTH),
        per_token=per_token,
        normalize=gate.flag("normalize"),
        shared_width=moe.integer("shared_width", MAX_FFN_WIDTH, least=0),
        margin=margin,
        router_width=router_width,
        router_rank=router_rank,
        ternary=moe.flag("ternary"),
        prices=gate.get("kind") == "dual_price",
    )


def _layers(moe: Settings, layers: int) -> tuple[int, ...]:
    listed = moe.get("layers")
    if (
        not isinstance(listed, list)
        or not all(type(i) is int and 0 <= i < layers for i in listed)
        or sorted(set(listed)) != listed
    ):
        moe.fail("layers", f"must name some of the {layers} layers in ascending order")
    return tuple(listed)
