"""The family `gemma3n`."""

from shortlist.spec.families.base import (
    ALTUP,
    LAUREL,
    LAYER_INPUT,
    NORMS_OF_QUERY_AND_KEY,
    POST_NORMS,
    Family,
)
from shortlist.spec.gemma3n import gguf_own, hf_own
from shortlist.spec.hf_key_groups import GEMMA, activation, attention, biases
from shortlist.spec.keys import harmless, refused, used

FAMILY = Family(
    "gemma3n",
    "gemma3n",
    "gemma3n_text",
    hf_wrapper="gemma3n",
    extras=NORMS_OF_QUERY_AND_KEY + POST_NORMS + LAUREL + ALTUP + LAYER_INPUT,
    activation="gelu_tanh",
    scaled_embedding=True,
    window_rule="most",
    global_every=5,
    hf_rope_base=1_000_000.0,
    local_rope_base=10_000.0,
    attention_scale=1.0,
    gguf_logit_cap=30.0,
    value_norm=True,
    streams=True,
    hf_own=hf_own,
    gguf_own=gguf_own,
    hf_layer_names=(
        ("post_attention_layernorm", "post_attention_norm"),
        ("pre_feedforward_layernorm", "ffn_norm"),
        ("post_feedforward_layernorm", "post_ffn_norm"),
    ),
    hf_keys={
        **attention(32_768, 1e-6, 2, 256, tied=True),
        **activation("gelu_pytorch_tanh", "hidden_activation"),
        **biases(attention_bias=False),
        **GEMMA,
        **harmless("the class reads hidden_activation", "hidden_act"),
        **harmless("attention of this family has no scale", "query_pre_attn_scalar"),
        "sliding_window": used("positions that layers with a window see", 512),
        "sliding_window_pattern": refused(
            "every fifth layer sees everything, where layer_types is absent", 5
        ),
        "final_logit_softcapping": used("cap of logits; null: none", 30.0),
        "vocab_size_per_layer_input": used("tokens with inputs of their own", 262_144),
        "hidden_size_per_layer_input": used("numbers in the input of a layer", 256),
        "altup_active_idx": used("the stream that layers compute", 0),
        "altup_num_inputs": used("streams", 4),
        "altup_correct_scale": refused("streams that are corrected without a scale", True),
        "num_kv_shared_layers": used("last layers that attend to earlier keys and values", 15),
        "laurel_rank": used("rank of the map beside attention", 64),
        "activation_sparsity_pattern": used("share of the gates that each layer sets to zero"),
    },
)
