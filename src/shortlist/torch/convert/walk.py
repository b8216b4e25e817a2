"""Runs a model layer by layer: all sequences of a text go through a layer before the next one runs."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from shortlist.torch import MoE
from shortlist.torch.blocks import find_blocks
from shortlist.torch.shared_router import SharedRouter, route
from shortlist.torch.tokens import ARGUMENT, Tokens, telling

BATCH = 8  # sequences in one pass


@dataclass
class Step:
    """Input x and output y of a layer's feed-forward block, both [tokens, width].

    `weights` [tokens, experts] are the routing weights of a mixture, None for a dense layer.
    """

    index: int
    block: Any
    x: Tensor
    y: Tensor
    weights: Tensor | None


class Walk:
    """Hidden states of all sequences between two layers.

    Parameters
    ----------
    model
        A `transformers` model, without cache; its layers must be entered in order.
    ids : int64 [sequences, length]
        Sequences with the model's start tokens.
    """

    @torch.no_grad()
    def __init__(self, model: Any, ids: Tensor):
        self.model = model
        self.ids = ids
        self.blocks = find_blocks(model)
        self.hidden = model.get_input_embeddings()(ids)
        self.arguments = self._arguments()

    def __iter__(self) -> Iterator[Step]:
        for index, (layer, name) in enumerate(self.blocks):
            yield self.enter(index, getattr(layer, name))

    @torch.no_grad()
    def enter(self, index: int, block: Any) -> Step:
        """Run one layer and move on to the hidden states after it."""
        step, self.hidden = self.try_layer(index, block)
        return step

    @torch.no_grad()
    def try_layer(self, index: int, block: Any) -> tuple[Step, Tensor]:
        """Run one layer and return the hidden states after it, without moving on."""
        seen: list[tuple[Tensor, Tensor]] = []
        weights: list[Tensor] = []

        def see(_: Any, args: tuple[Tensor], y: Tensor) -> None:
            seen.append((args[0], y))
            if isinstance(block, MoE):
                assert block.routing is not None
                weights.append(block.routing.dense())

        handle = block.register_forward_hook(see)
        after = torch.empty_like(self.hidden)
        router = getattr(self.model.base_model, "router", None)
        try:
            for start in range(0, len(self.ids), BATCH):
                part = slice(start, start + BATCH)
                tokens = Tokens(self.ids[part])
                if isinstance(router, SharedRouter):
                    tokens = route(self.model, router, self.ids[part])
                with telling(tokens):
                    output = self.blocks[index][0](self.hidden[part], **self.arguments[index])
                after[part] = output[0] if isinstance(output, tuple) else output
        finally:
            handle.remove()
        x, y = (torch.cat(parts).flatten(0, 1) for parts in zip(*seen, strict=True))
        return Step(index, block, x, y, torch.cat(weights) if weights else None), after

    def _arguments(self) -> list[dict[str, Any]]:
        """The other arguments of each layer, positions and masks, in a form that fits every batch."""
        found: list[dict[str, Any]] = []

        def see(_layer: Any, _args: tuple, kwargs: dict[str, Any]) -> None:
            found.append({name: value for name, value in kwargs.items() if name != ARGUMENT})

        handles = [layer.register_forward_pre_hook(see, with_kwargs=True) for layer, _ in self.blocks]
        try:
            self.model.base_model(input_ids=self.ids[:1], use_cache=False)
        finally:
            for handle in handles:
                handle.remove()
        return found
