"""The numbers that define a decoder: one flat record, whatever file they were read from."""

from dataclasses import dataclass
from typing import Literal

Activation = Literal["silu", "gelu_tanh", "relu", "relu2"]
"""Of a feed-forward layer; `relu2` is the square of `relu`."""

ACTIVATIONS_WITH_ZEROS: tuple[Activation, ...] = ("relu", "relu2")
"""Those that are exactly zero for every input that is not positive."""


@dataclass(frozen=True)
class Streams:
    """Several residual streams (AltUp), and an input of its own for every layer, as gemma3n has them.

    Parameters
    ----------
    count
        Streams, of which a layer computes one and predicts the others.
    active
        The one that layers compute.
    input_width
        Numbers in the input of a layer.
    input_vocab_size
        Tokens that have inputs of their own; those beyond share the inputs of token 0.
    """

    count: int
    active: int
    input_width: int
    input_vocab_size: int


@dataclass(frozen=True)
class MixtureConfig:
    """The feed-forward layers that are mixtures of experts; the others of a model are dense.

    Parameters
    ----------
    layers
        Which they are, ascending.
    experts
        In each of them.
    width
        Hidden units of one expert.
    per_token
        Experts that each token computes, those with the largest scores; None: all whose score, the logarithm
        of the size of what they add, is at least the largest plus `margin`, with weight 1.
    normalize
        The weights of these, which a softmax over all gives, are divided by their sum.
    margin
        Not positive.
    router_width
        Hidden units of the network that scores the experts; 0: scores are linear.
    router_rank
        Numbers that one router for all mixtures remembers, which reads tokens alone; 0: each mixture has a
        router of its own.
    prices
        A price of each expert is taken off the scores for the choice, not for the weights.
    ternary
        Weights of the experts are -1, 0 or 1 times a scale for each row.
    shared_width
        Hidden units of the expert that every token computes; 0: there is none.
    shared_gate
        What the shared expert adds is multiplied by the sigmoid of one more row.
    """

    layers: tuple[int, ...]
    experts: int
    width: int
    per_token: int | None
    normalize: bool
    shared_width: int = 0
    shared_gate: bool = False
    margin: float = 0.0
    router_width: int = 0
    router_rank: int = 0
    ternary: bool = False
    prices: bool = False


@dataclass(frozen=True)
class ModelConfig:
    """Sizes and constants of one decoder.

    Whether there are query and key norms, or norms after attention and feed-forward is not repeated here: the
    tensors that the checkpoint holds say so.

    Parameters
    ----------
    family
        Key of `shortlist.spec.families.FAMILIES`.
    vocab_size, width, layers, heads, kv_heads, head_dim, ffn_width
        `heads * head_dim` need not equal `width` (gemma3, qwen3); `ffn_width` is that of the widest layer.
    norm_eps
        Added to the mean square inside each RMS norm.
    norm_offset
        Added to every norm weight: 1 for gemma weights from Hugging Face, 0 for GGUF, whose converter
        has added it already.
    context_length
        Most positions that the model was trained for.
    tied_head
        The language-model head is the embedding table.
    activation
        Applied to the gate of the feed-forward layer, or to `up` in a family without a gate.
    embedding_scale
        Multiplies the embedding of every input token.
    attention_scale
        Multiplies the products of query and key.
    windows
        For each layer the number of latest positions, its own included, that attention sees; 0 = all.
    rope_frequencies
        For each layer the `head_dim / 2` angles, in radians per position, by which pairs of a query or key
        turn; every kind of scaling is already applied. With fewer angles only the first part of each head
        turns, without any nothing does.
    rope_scales
        For each layer what turned queries and keys are multiplied by (YaRN); empty: 1 everywhere.
    rope_interleaved
        Pairs are neighbours (0, 1), (2, 3), ... instead of halves (0, head_dim / 2), (1, ...), ...: the order
        of rows that GGUF uses for the `llama` architecture.
    logit_cap
        Logits become `logit_cap * tanh(logit / logit_cap)`; None: they stay as they are.
    logit_scale
        Multiplies logits, before the cap.
    residual_scale
        Multiplies what attention and feed-forward add to the residual stream.
    ffn_widths
        For each layer, where they differ; empty: `ffn_width` everywhere.
    ffn_cutoffs
        For each layer how many deviations above their mean gates must lie, which otherwise are zero; None:
        any gate counts. Empty: None everywhere.
    biases
        The bias vectors that layers have: `q_bias`, `k_bias`, `v_bias`, `o_bias` in all, `gate_bias`,
        `up_bias` and `down_bias` in dense ones.
    kv_sources
        For each layer the one whose keys and values it attends to: itself or an earlier one. Empty: itself
        everywhere.
    laurel_rank
        Of the low-rank map beside attention; 0: there is none.
    streams
        None: there is a single residual stream.
    mixture
        None: every layer is dense.
    """

    family: str
    vocab_size: int
    width: int
    layers: int
    heads: int
    kv_heads: int
    head_dim: int
    ffn_width: int
    norm_eps: float
    norm_offset: float
    context_length: int
    tied_head: bool
    activation: Activation
    embedding_scale: float
    attention_scale: float
    windows: tuple[int, ...]
    rope_frequencies: tuple[tuple[float, ...], ...]
    rope_interleaved: bool
    rope_scales: tuple[float, ...] = ()
    logit_cap: float | None = None
    logit_scale: float = 1.0
    residual_scale: float = 1.0
    ffn_widths: tuple[int, ...] = ()
    ffn_cutoffs: tuple[float | None, ...] = ()
    biases: tuple[str, ...] = ()
    kv_sources: tuple[int, ...] = ()
    laurel_rank: int = 0
    streams: Streams | None = None
    mixture: MixtureConfig | None = None

    def ffn_width_of(self, layer: int) -> int:
        """Neurons of one layer."""
        return self.ffn_widths[layer] if self.ffn_widths else self.ffn_width

    def ffn_cutoff_of(self, layer: int) -> float | None:
        """Deviations above their mean that gates of one layer must lie to count; None: any gate counts."""
        return self.ffn_cutoffs[layer] if self.ffn_cutoffs else None

    def rope_of(self, layer: int) -> tuple[tuple[float, ...], float]:
        """The angles by which one layer turns queries and keys, and what it multiplies them by."""
        return self.rope_frequencies[layer], self.rope_scales[layer] if self.rope_scales else 1.0

    def kv_source_of(self, layer: int) -> int:
        """The layer whose keys and values a layer attends to."""
        return self.kv_sources[layer] if self.kv_sources else layer

    def is_mixture(self, layer: int) -> bool:
        """Whether the feed-forward part of a layer is a mixture of experts."""
        return self.mixture is not None and layer in self.mixture.layers
