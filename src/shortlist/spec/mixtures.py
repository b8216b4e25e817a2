"""Reads what a checkpoint says about its mixtures of experts."""

from collections.abc import Mapping
from typing import Any

from shortlist.spec.config import MixtureConfig
from shortlist.spec.families.base import Family
from shortlist.spec.settings import MAX_FFN_WIDTH, MAX_LAYERS, Settings
from shortlist.spec.tensors import StoredTensor

MAX_EXPERTS = 1 << 10
"""Largest number of experts in a layer, far above any real model."""


def gguf_mixture(
    settings: Settings, family: Family, layers: int, tensors: Mapping[str, StoredTensor]
) -> MixtureConfig | None:
    """Read the mixture of a GGUF model; every layer without a dense feed-forward part is a mixture.

    Raises
    ------
    CheckpointError
        A setting is missing, absurd or not supported.
    """
    if family.experts is None:
        return None
    experts = settings.integer("expert_count", MAX_EXPERTS)
    ffn_width = settings.get("feed_forward_length")
    shared_width = 0
    if family.experts.shared:
        shared_width = settings.integer("expert_shared_feed_forward_length", MAX_FFN_WIDTH, default=ffn_width)
    return MixtureConfig(
        layers=tuple(i for i in range(layers) if f"layers.{i}.down" not in tensors),
        experts=experts,
        width=settings.integer("expert_feed_forward_length", MAX_FFN_WIDTH, default=ffn_width),
        per_token=settings.integer("expert_used_count", experts),
        normalize=family.experts.gguf_normalize,
        shared_width=shared_width,
        shared_gate=family.experts.shared,
    )


def hf_mixture(settings: Settings, family: Family, layers: int) -> MixtureConfig | None:
    """Read the mixture of a Hugging Face model.

    Raises
    ------
    CheckpointError
        A setting is missing, absurd or not supported.
    """
    if family.experts is None:
        return None
    experts = settings.integer(family.experts.hf_count, MAX_EXPERTS)
    normalize = settings.flag("norm_topk_prob", family.experts.hf_normalize)
    shared_width = 0
    if family.experts.shared:
        shared_width = settings.integer("shared_expert_intermediate_size", MAX_FFN_WIDTH)
    width = "moe_intermediate_size" if "moe_intermediate_size" in settings else "intermediate_size"
    return MixtureConfig(
        layers=_sparse_layers(settings, layers),
        experts=experts,
        width=settings.integer(width, MAX_FFN_WIDTH),
        per_token=settings.integer("num_experts_per_tok", experts),
        normalize=normalize,
        shared_width=shared_width,
        shared_gate=family.experts.shared,
    )


def _sparse_layers(settings: Settings, layers: int) -> tuple[int, ...]:
    """Every n-th layer, except those that the configuration names as dense (qwen)."""
    step = settings.integer("decoder_sparse_step", MAX_LAYERS, default=1)
    dense: Any = settings.get("mlp_only_layers", [])
    if not isinstance(dense, list) or not all(type(i) is int for i in dense):
        settings.fail("mlp_only_layers", f"is {dense!r:.80}, but must be a list of layers")
    return tuple(i for i in range(layers) if (i + 1) % step == 0 and i not in dense)
