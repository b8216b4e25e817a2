"""The mixture-of-experts layer, and functions over all such layers of a model."""

import warnings
from collections.abc import Iterator

import torch
from torch import Tensor, nn

from shortlist.errors import UsageError
from shortlist.torch.dispatchers import Dispatcher, dispatcher_named
from shortlist.torch.experts import ExpertBank
from shortlist.torch.gates import Gate, Routing
from shortlist.torch.tokens import tokens_here


class MoE(nn.Module):
    """A feed-forward layer in which every token is computed by the experts that the gate chooses for it.

    Parameters
    ----------
    gate
        Chooses experts and weights for every token.
    experts
        Compute the outputs.
    dispatcher
        Brings states to the experts and their outputs back: an object, or a name in `DISPATCHERS`. It says
        which experts are held here, for instance half of them on each of two processes.
    shared
        A module that computes every token, added with weight 1 (a shared expert; with a gate that chooses one
        expert, the residual layer of DeepSpeed-MoE). Its parameters are named `shared_expert`.
    shared_gate
        A module whose sigmoid [tokens, 1] weighs what `shared` computes, as in Qwen2-MoE.

    Raises
    ------
    UsageError
        The gate is made for another number of experts, or there is no dispatcher of this name.

    Attributes
    ----------
    routing : Routing or None
        The routing of the last forward pass.
    """

    def __init__(
        self,
        gate: Gate,
        experts: ExpertBank,
        dispatcher: Dispatcher | str = "local",
        shared: nn.Module | None = None,
        shared_gate: nn.Module | None = None,
    ):
        super().__init__()
        dispatcher = dispatcher_named(dispatcher) if isinstance(dispatcher, str) else dispatcher
        held = len(dispatcher.held(gate.experts))
        if held != experts.count:
            here = "" if held == gate.experts else f", {held} of them here"
            raise UsageError(
                f"the gate chooses among {gate.experts} experts{here}, and there are {experts.count}"
            )
        self.gate = gate
        self.experts = experts
        self.dispatcher = dispatcher
        self.shared_expert = shared
        self.shared_expert_gate = shared_gate
        self.routing: Routing | None = None

    def forward(self, hidden: Tensor, token_ids: Tensor | None = None, mask: Tensor | None = None) -> Tensor:
        """The feed-forward layer.

        Parameters
        ----------
        hidden : [..., width]
            States.
        token_ids : int64 [...], optional
            Needed by gates that route by token id. A patched model passes ids and mask by itself.
        mask : [...], optional
            Zero or False where a token is padding: no expert computes it, and no loss or load counts it.

        Returns
        -------
        [..., width]
            Outputs. A padding token gets only the shared expert's output, or zeros.
        """
        x = hidden.reshape(-1, hidden.shape[-1])
        segments = self.dispatcher.dispatch(x, self._route(x, token_ids, mask))
        outputs = self.experts(segments)
        y = self.dispatcher.combine(outputs, segments)
        return self._add_shared(y, x).reshape(hidden.shape)

    def reference(
        self, hidden: Tensor, token_ids: Tensor | None = None, mask: Tensor | None = None
    ) -> Tensor:
        """The same as `forward` by the definition: all experts compute all tokens; most weights are zero.

        Raises
        ------
        UsageError
            Some experts are held by other processes.
        """
        if self.experts.count != self.gate.experts:
            raise UsageError("the definition needs all experts in one process; some are held by others")
        x = hidden.reshape(-1, hidden.shape[-1])
        weights = self._route(x, token_ids, mask).dense().to(x.dtype)
        y = torch.zeros_like(x)
        for e in range(self.experts.count):
            y = y + weights[:, e, None] * self.experts.one(x, e)
        return self._add_shared(y, x).reshape(hidden.shape)

    def _route(self, x: Tensor, token_ids: Tensor | None, mask: Tensor | None) -> Routing:
        tokens = tokens_here()
        ids = tokens.ids if token_ids is None and tokens is not None else token_ids
        ids = None if ids is None else ids.reshape(-1)
        mask = tokens.mask if mask is None and tokens is not None else mask
        if mask is None:
            routing = self.routing = self.gate(x, ids)
            return routing
        if mask.numel() != len(x):
            raise UsageError(f"the mask is of {mask.numel()} tokens, and the layer got {len(x)} states")
        rows = mask.reshape(-1).nonzero().squeeze(-1)
        # Gates see no padding, so that they count and learn from real tokens only.
        seen: Routing = self.gate(x[rows], None if ids is None else ids[rows])
        routing = self.routing = seen.among(rows, len(x))
        return routing

    def _add_shared(self, y: Tensor, x: Tensor) -> Tensor:
        if self.shared_expert is None:
            return y
        shared = self.shared_expert(x)
        if self.shared_expert_gate is not None:
            shared = self.shared_expert_gate(x).sigmoid() * shared
        return y + shared

    def __getstate__(self) -> dict:
        # The last routing is part of an autograd graph, which cannot be copied: a copy starts without it.
        return super().__getstate__() | {"routing": None}


def moe_layers(model: nn.Module) -> Iterator[MoE]:
    """All mixture-of-experts layers of a model, in order."""
    return (module for module in model.modules() if isinstance(module, MoE))


def auxiliary_losses(model: nn.Module) -> dict[str, Tensor]:
    """Auxiliary losses of the last forward pass by name, each summed over the model's layers.

    Warns where a gate in training mode gets no gradient from them, because the pass had gradients off.
    """
    total: dict[str, Tensor] = {}
    layers = list(moe_layers(model))
    for layer in layers:
        for name, loss in (layer.routing.losses if layer.routing else {}).items():
            total[name] = total[name] + loss if name in total else loss
    if torch.is_grad_enabled() and any(_without_gradients(layer) for layer in layers):
        warnings.warn(
            "auxiliary losses without gradients: the last pass had none, as with reentrant checkpointing; "
            "enable that with use_reentrant=False",
            stacklevel=2,
        )
    return total


def _without_gradients(layer: MoE) -> bool:
    """Whether a gate in training mode has auxiliary losses from which it gets no gradient."""
    if not (layer.routing and layer.training and layer.gate.gives):
        return False
    trains = any(parameter.requires_grad for parameter in layer.gate.parameters())
    return trains and not any(loss.requires_grad for loss in layer.routing.losses.values())


def set_progress(model: nn.Module, progress: float) -> None:
    """Tell all gates the progress of training, from 0 to 1."""
    for layer in moe_layers(model):
        layer.gate.progress = progress


def after_step(model: nn.Module) -> None:
    """Let gates that balance without a loss adjust. Call it after every step of the optimizer."""
    for layer in moe_layers(model):
        layer.gate.after_step()
