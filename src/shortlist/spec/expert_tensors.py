"""The tensors of a mixture of experts: how checkpoints spell them, and their shapes.

`{}` stands for the number of an expert. Files keep the experts of a layer in one tensor, `experts.gate`, one
expert behind the other, or in one tensor each, `experts.3.gate`; an open checkpoint has the latter alone
(`checkpoints.experts`).
"""

from shortlist.spec.config import MixtureConfig

GGUF_EXPERT_NAMES = {
    "ffn_gate_inp.weight": "router",
    "ffn_gate_exps.weight": "experts.gate",
    "ffn_up_exps.weight": "experts.up",
    "ffn_down_exps.weight": "experts.down",
    "ffn_gate.{}.weight": "experts.{}.gate",
    "ffn_up.{}.weight": "experts.{}.up",
    "ffn_down.{}.weight": "experts.{}.down",
    "ffn_gate_inp_shexp.weight": "shared_gate",
    "ffn_gate_shexp.weight": "shared.gate",
    "ffn_up_shexp.weight": "shared.up",
    "ffn_down_shexp.weight": "shared.down",
}

HF_EXPERT_NAMES = {
    "mlp.gate.weight": "router",
    "mlp.experts.gate_up_proj": "experts.gate_up",
    "mlp.experts.down_proj": "experts.down",
    "mlp.experts.gate_up_scale": "experts.gate_up_scale",
    "mlp.experts.down_scale": "experts.down_scale",
    "mlp.experts.{}.gate_proj.weight": "experts.{}.gate",
    "mlp.experts.{}.up_proj.weight": "experts.{}.up",
    "mlp.experts.{}.down_proj.weight": "experts.{}.down",
    "mlp.gate.up.weight": "router_hidden",
    "mlp.gate.up.bias": "router_hidden_bias",
    "mlp.gate.down.weight": "router",
    "mlp.gate.down.bias": "router_bias",
    "mlp.gate.price": "router_price",
    "mlp.shared_expert_gate.weight": "shared_gate",
    "mlp.shared_expert.gate_proj.weight": "shared.gate",
    "mlp.shared_expert.up_proj.weight": "shared.up",
    "mlp.shared_expert.down_proj.weight": "shared.down",
    # Mixtral, as it was published.
    "block_sparse_moe.gate.weight": "router",
    "block_sparse_moe.experts.{}.w1.weight": "experts.{}.gate",
    "block_sparse_moe.experts.{}.w3.weight": "experts.{}.up",
    "block_sparse_moe.experts.{}.w2.weight": "experts.{}.down",
}

HF_SHARED_ROUTER_NAMES = {
    "model.router.project.weight": "router_project",
    "model.router.decay": "router_decay",
    "model.router.up.weight": "router_up",
    "model.router.up.bias": "router_up_bias",
    "model.router.down.weight": "router_down",
    "model.router.down.bias": "router_down_bias",
}


def shared_router_shapes(mixture: MixtureConfig, width: int) -> dict[str, tuple[int, ...]]:
    """The tensors of a router that all mixtures share, and their shapes; `width` is the decoder's."""
    rank = mixture.router_rank
    return {
        "router_project": (rank, width),
        "router_decay": (rank,),
        "router_up": (rank, 2 * rank),
        "router_up_bias": (rank,),
        "router_down": (mixture.experts, rank),
        "router_down_bias": (mixture.experts,),
    }


def mixture_shapes(mixture: MixtureConfig, width: int, *, gated: bool) -> dict[str, tuple[int, ...]]:
    """The tensors of a mixture, those of every expert apart, and their shapes.

    Parameters
    ----------
    mixture
    width
        Of the decoder.
    gated
        Whether blocks have a gate.
    """

    def block(name: str, hidden: int) -> dict[str, tuple[int, int]]:
        gate = {f"{name}.gate": (hidden, width)} if gated else {}
        return {**gate, f"{name}.up": (hidden, width), f"{name}.down": (width, hidden)}

    shapes: dict[str, tuple[int, ...]] = {}
    if not mixture.router_rank:
        shapes["router"] = (mixture.experts, mixture.router_width or width)
    if inner := mixture.router_width:
        shapes |= {"router_hidden": (inner, width), "router_hidden_bias": (inner,)}
        shapes["router_bias"] = (mixture.experts,)
    if mixture.prices:
        shapes["router_price"] = (mixture.experts,)
    for expert in range(mixture.experts):
        matrices = block(f"experts.{expert}", mixture.width)
        shapes |= matrices
        if mixture.ternary:
            shapes |= {f"{name}_scale": (rows,) for name, (rows, _) in matrices.items()}
    if mixture.shared_width:
        shapes |= block("shared", mixture.shared_width)
    if mixture.shared_gate:
        shapes["shared_gate"] = (1, width)
    return shapes
