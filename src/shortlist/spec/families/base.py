"""What a family says: how to recognise its checkpoints, what they leave unsaid, what its layers have."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from shortlist.spec.config import Activation, ModelConfig
from shortlist.spec.keys import Key
from shortlist.spec.settings import Settings

QKV_BIASES = ("q_bias", "k_bias", "v_bias")
ATTENTION_BIASES = (*QKV_BIASES, "o_bias")
FFN_BIASES = ("gate_bias", "up_bias", "down_bias")
BIASES = ATTENTION_BIASES + FFN_BIASES
"""Those that layers may have."""

NORMS_OF_QUERY_AND_KEY = ("q_norm", "k_norm")
PRE_NORMS = ("attention_norm", "ffn_norm")
POST_NORMS = ("post_attention_norm", "post_ffn_norm")
KEYS_AND_VALUES = ("k", "v", "k_norm", "k_bias", "v_bias")
LAUREL = ("laurel_left", "laurel_right", "laurel_norm")
ALTUP = ("altup_router", "altup_router_norm", "altup_predict", "altup_correct", "altup_scale")
LAYER_INPUT = ("input_gate", "input_up", "input_norm")


@dataclass(frozen=True)
class ExpertRules:
    """What the checkpoints of a family of mixtures of experts leave unsaid.

    Parameters
    ----------
    gguf_normalize
        Whether the weights of the chosen experts are divided by their sum; llama.cpp knows it by heart.
    hf_normalize
        The same for Hugging Face models whose class has no such setting.
    hf_count
        The key of `config.json` that counts them.
    shared
        Every mixture has a shared expert with a gate of its own.
    """

    gguf_normalize: bool
    hf_normalize: bool = False
    hf_count: Literal["num_experts", "num_local_experts"] = "num_experts"
    shared: bool = False


@dataclass(frozen=True)
class Family:
    """One family of decoders.

    Parameters
    ----------
    name
        What `ModelConfig.family` says.
    gguf_architecture
        `general.architecture` of its GGUF files.
    hf_model_type
        `model_type` in `config.json` of its Hugging Face folders.
    hf_wrapper
        `model_type` of folders that hold such a model as their `text_config`, beside encoders of images and
        sound.
    extras
        Tensors that each layer must have in addition to those of every decoder.
    activation
        Of the feed-forward layer where the checkpoint does not say.
    gated
        The feed-forward layer multiplies activation(gate) with up; without a gate it is activation(up).
    gguf_interleaved
        The GGUF converter reorders rows of q and k so that rotated pairs are neighbours.
    scaled_embedding
        Embeddings are multiplied by the square root of the width.
    hf_norm_offset
        Added to norm weights as Hugging Face stores them.
    window_rule
        Which layers have the window of a Hugging Face model whose file does not list them. `none`: no layer
        ever has one. `all`. `late`: those from `max_window_layers` on. `alternate`: every second one before
        it. `most`: all but every `global_every`-th; GGUF files have windows in this case alone.
    global_every
        Every n-th layer ignores the window.
    hf_rope_base
        RoPE base where `config.json` does not say.
    local_rope_base
        RoPE base of the layers with a window where the checkpoint does not say; None = as in the others.
    attention_scale
        Multiplies the products of query and key; None: as the size of a head says.
    gguf_logit_cap
        Of logits where a GGUF file does not say; None: they are not capped.
    value_norm
        Values are normed, head by head and without weights.
    streams
        There are several residual streams and inputs for every layer, see `config.Streams`.
    hf_layer_names
        Hugging Face names that differ from `HF_LAYER_NAMES`.
    pre_norms
        Attention and feed-forward read the residual stream through a norm.
    wide_norms
        Norms of queries and keys are over all heads together.
    experts
        Of a family whose feed-forward layers are mixtures of experts, some of them at least.
    hf_keys
        Keys of `config.json` of the family's own, with the defaults of its class. They come before those of
        `hf_keys.BASE`.
    gguf_keys
        Keys of GGUF files of the family's own, without the architecture. They come before all others.
    hf_own, gguf_own
        Complete the configuration by what no other family has; the latter also gets the stored tensors.
    fused
        Matrices that files hold as one, rows behind rows, by the name of the whole.
    gguf_layer_names
        GGUF names that differ from `GGUF_LAYER_NAMES`.
    partial_rope
        RoPE may turn the first part of each head alone.
    hf_rope_types
        Types of RoPE that the family's class knows; empty: all of `hf_keys.ROPE`.
    """

    name: str
    gguf_architecture: str
    hf_model_type: str
    hf_wrapper: str | None = None
    extras: tuple[str, ...] = ()
    activation: Activation = "silu"
    gated: bool = True
    gguf_interleaved: bool = False
    scaled_embedding: bool = False
    hf_norm_offset: float = 0.0
    window_rule: Literal["none", "all", "late", "alternate", "most"] = "none"
    global_every: int = 0
    hf_rope_base: float = 10_000.0
    local_rope_base: float | None = None
    attention_scale: float | None = None
    gguf_logit_cap: float | None = None
    value_norm: bool = False
    streams: bool = False
    hf_layer_names: tuple[tuple[str, str], ...] = ()
    pre_norms: bool = True
    wide_norms: bool = False
    experts: ExpertRules | None = None
    hf_keys: dict[str, Key] = field(default_factory=dict, repr=False)
    gguf_keys: dict[str, Key] = field(default_factory=dict, repr=False)
    hf_own: Callable[[Settings, ModelConfig], ModelConfig] | None = None
    gguf_own: Callable[[Settings, ModelConfig, Mapping[str, Any]], ModelConfig] | None = None
    fused: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    gguf_layer_names: tuple[tuple[str, str], ...] = ()
    partial_rope: bool = False
    hf_rope_types: tuple[str, ...] = ()

    def __hash__(self) -> int:
        return hash(self.name)

    @property
    def layer_tensors(self) -> tuple[str, ...]:
        """What each dense layer must have."""
        absent = (() if self.gated else ("gate",)) + (() if self.pre_norms else PRE_NORMS)
        return tuple(name for name in LAYER_TENSORS if name not in absent) + self.extras

    @property
    def mixture_tensors(self) -> tuple[str, ...]:
        """What a layer must have besides the tensors of a mixture (`mixture_shapes`)."""
        return tuple(name for name in self.layer_tensors if name not in FFN_TENSORS)


LAYER_TENSORS = ("attention_norm", "q", "k", "v", "o", "ffn_norm", "gate", "up", "down")
"""What a layer of every family has, but for the gate and the norms of those without them."""

FFN_TENSORS = ("gate", "up", "down")
