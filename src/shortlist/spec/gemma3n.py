"""What checkpoints say of gemma3n beyond what all families have.

Where a Hugging Face folder is silent, transformers' `Gemma3nTextConfig` fills in, and where a GGUF file is,
llama.cpp does (src/models/gemma3n.cpp).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from statistics import NormalDist
from typing import TYPE_CHECKING

import numpy as np

from shortlist.spec.config import ModelConfig, Streams
from shortlist.spec.settings import MAX_LAYERS, MAX_WIDTH, Settings

if TYPE_CHECKING:
    from shortlist.spec.tensors import StoredTensor

MOST_STREAMS = 16

_SPARSE_LAYERS, _SPARSITY = 10, 0.95
_OWN_KV_LAYERS = 20
_MAX_VOCABULARY = 1 << 24


def hf_own(settings: Settings, config: ModelConfig) -> ModelConfig:
    """The configuration with what `config.json` says of streams, cutoffs and shared keys and values.

    Raises
    ------
    CheckpointError
        A setting is missing, absurd or not supported.
    """
    if not settings.get("altup_correct_scale", True):
        settings.fail("altup_correct_scale", "is false, which is not supported")
    count = settings.integer("altup_num_inputs", MOST_STREAMS, default=4, least=2)
    return replace(
        config,
        laurel_rank=settings.integer("laurel_rank", MAX_WIDTH, default=64),
        ffn_cutoffs=_cutoffs(settings, config.layers),
        kv_sources=_kv_sources(settings, "num_kv_shared_layers", config.windows, default=15),
        streams=Streams(
            count,
            settings.integer("altup_active_idx", count - 1, default=0, least=0),
            settings.integer("hidden_size_per_layer_input", MAX_WIDTH, default=256),
            settings.integer("vocab_size_per_layer_input", _MAX_VOCABULARY, default=262_144),
        ),
    )


def gguf_own(settings: Settings, config: ModelConfig, tensors: Mapping[str, StoredTensor]) -> ModelConfig:
    """The same from GGUF metadata; sizes that no key states are those of the tensors, by canonical name.

    Raises
    ------
    CheckpointError
        A setting is missing, absurd or not supported.
    """
    layers = config.layers
    key = "activation_sparsity_scale"
    sparse = [NormalDist().inv_cdf(_SPARSITY)] * min(layers, _SPARSE_LAYERS)
    default = sparse + [-math.inf] * (layers - len(sparse))
    cutoffs = settings.numbers(key, layers, default=default)
    if math.inf in cutoffs:
        settings.fail(key, "is infinite, which leaves a layer without neurons")
    count = settings.integer("altup.num_inputs", MOST_STREAMS, default=4, least=2)
    table, left = tensors.get("input_table"), tensors.get("layers.0.laurel_left")
    return replace(
        config,
        laurel_rank=left.shape[0] if left else 1,
        ffn_cutoffs=tuple(None if cutoff == -math.inf else cutoff for cutoff in cutoffs),
        kv_sources=_kv_sources(
            settings, "attention.shared_kv_layers", config.windows, default=max(layers - _OWN_KV_LAYERS, 0)
        ),
        streams=Streams(
            count,
            settings.integer("altup.active_idx", count - 1, default=0, least=0),
            settings.integer("embedding_length_per_layer_input", MAX_WIDTH, default=256),
            table.shape[0] if table else 1,
        ),
    )


def split_streams(tensors: dict[str, StoredTensor]) -> None:
    """Replace GGUF's stacks `expand` and `merge` by views of their matrices, `expand_1` and so on."""
    for name in ("expand", "merge"):
        stack = tensors.pop(name, None)
        if stack is None or len(stack.shape) != 3:
            continue
        for i, data in enumerate(np.split(stack.data, stack.shape[0]), start=1):
            tensors[f"{name}_{i}"] = replace(stack, shape=stack.shape[1:], data=data)


def _cutoffs(settings: Settings, layers: int) -> tuple[float | None, ...]:
    """From the share of the gates that each layer sets to zero, if they were normal."""
    key = "activation_sparsity_pattern"
    sparse = _SPARSE_LAYERS if layers > _SPARSE_LAYERS else 0
    shares = settings.numbers(key, layers, default=[_SPARSITY] * sparse + [0.0] * (layers - sparse))
    if any(not 0 <= share < 1 for share in shares):
        settings.fail(key, "must be shares from 0 to below 1")
    return tuple(NormalDist().inv_cdf(share) if share else None for share in shares)


def _kv_sources(settings: Settings, key: str, windows: Sequence[int], default: int) -> tuple[int, ...]:
    """The last layers attend to keys and values of the last one before them with the same window."""
    shared = settings.integer(key, MAX_LAYERS, default=default, least=0)
    first = len(windows) - shared
    last = {window: i for i, window in enumerate(windows[: max(first, 0)])}
    if first < 1 or any(window not in last for window in windows):
        settings.fail(key, f"is {shared}, which leaves a kind of layer without keys and values")
    return tuple(i if i < first else last[window] for i, window in enumerate(windows))
