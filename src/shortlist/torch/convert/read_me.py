"""Makes an expert of the neurons that matter to a domain; one router chooses for all layers at once."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from shortlist.errors import UsageError
from shortlist.torch import MoE
from shortlist.torch.convert.base import (
    ACTIVE,
    GROUP,
    Converted,
    ConvertOptions,
    Method,
    Report,
    Text,
    block_of,
    layers_of,
    neuron_sizes,
    neurons_of,
    whole_groups,
)
from shortlist.torch.convert.walk import Walk
from shortlist.torch.converted import GateConfig, MoEConfig, install, make_layer
from shortlist.torch.dense_weights import fill_expert, fill_shared
from shortlist.torch.shared_router import SharedRouter

ROUTER_RANK = 64
ROUTER_STEPS, ROUTER_BATCH, ROUTER_RATE = 300, 8, 3e-3


class ReadMe(Method):
    """Read-ME (https://arxiv.org/abs/2410.19123), https://github.com/VITA-Group/READ-ME.

    Domains are the given texts, or parts of a single text. For each domain a layer's neurons are ranked by
    their mean magnitude there, and the wanted share of them is the domain's mask. The neurons that all masks
    have in common are the shared expert; it has the same size in all layers, the smallest of these. The rest
    of each mask is an expert, so an important neuron may be in several.

    Then, as in the paper, two steps alternate: the router learns which expert loses least of a token, and the
    masks are made anew for the tokens that it sends to each expert.
    """

    experts = 4
    refits = True
    text_weight = 0.0

    def convert(self, model: Any, text: Text, options: ConvertOptions, report: Report) -> Converted:
        layers = layers_of(model, options)
        experts, labels = domain_labels(text, options.experts, self.experts)
        neurons = neurons_of(model)
        active = min(whole_groups((options.active or ACTIVE) * neurons), neurons)

        means = mean_sizes(model, text, labels, experts, layers)
        report("convert", 0.3)
        lost = lost_shares(model, text, top_masks(means, active), layers)
        report("convert", 0.6)
        router = train_router(model, text, lost, options.seed)
        with torch.no_grad():
            chosen = router(model.get_input_embeddings().weight[text.ids])[0].argmax(-1).flatten()
        means = mean_sizes(model, text, chosen, experts, layers, otherwise=means)
        masks = top_masks(means, active)

        shared = int(masks.all(dim=1).sum(-1).min()) // GROUP * GROUP
        shared = min(shared, active - GROUP)
        gate = GateConfig("shared_router", k=1, width=ROUTER_RANK)
        config = MoEConfig("read-me", experts, active - shared, shared, gate, False, layers)
        install(model, config, split(model, config, means, masks))
        model.base_model.router.load_state_dict(router.state_dict())
        report("convert", 1.0)
        picked = lost.gather(1, chosen[:, None]).mean()
        notes = {
            "lost with the best route": float(lost.min(dim=1).values.mean()),
            "lost with the router's": float(picked),
            "lost with one expert for all": float(lost.mean(dim=0).min()),
        }
        return Converted(model, config, notes)


def domain_labels(text: Text, wanted: int | None, default: int) -> tuple[int, Tensor]:
    """The number of experts, and one of them for every token: its domain, or its part of a single text.

    Raises
    ------
    UsageError
        There are several domains and another number of experts is wanted, or more experts than sequences.
    """
    sequences, length = text.ids.shape
    domains = int(text.domains.max()) + 1
    if domains > 1 and wanted not in (None, domains):
        raise UsageError(
            f"there is one expert for each of the {domains} texts, not {wanted}: leave --experts out"
        )
    experts = domains if domains > 1 else wanted or default
    if experts > sequences:
        raise UsageError(f"the text is too short for {experts} domains: give more of it, or fewer --experts")
    labels = text.domains if domains > 1 else torch.arange(sequences) * experts // sequences
    return experts, labels.repeat_interleave(length)


def mean_sizes(
    model: Any,
    text: Text,
    labels: Tensor,
    experts: int,
    layers: tuple[int, ...],
    otherwise: Tensor | None = None,
) -> Tensor:
    """Mean magnitude of every neuron over the tokens of each label, [layers, experts, neurons].

    A label without tokens gets the means of `otherwise`.
    """
    counts = torch.bincount(labels, minlength=experts)
    shares = torch.nn.functional.one_hot(labels, experts).float() / counts.clamp(min=1)
    means = torch.stack(
        [
            shares.T @ neuron_sizes(step.block, step.x)
            for step in Walk(model, text.ids)
            if step.index in layers
        ]
    )
    if otherwise is not None:
        means[:, counts == 0] = otherwise[:, counts == 0]
    return means


def top_masks(means: Tensor, active: int) -> Tensor:
    """Mark the `active` largest values along the last dimension, bool."""
    return torch.zeros_like(means, dtype=torch.bool).scatter_(-1, means.topk(active).indices, True)


def lost_shares(model: Any, text: Text, masks: Tensor, layers: tuple[int, ...]) -> Tensor:
    """Share of a token's squared magnitudes outside an expert's mask, mean over layers, [tokens, experts]."""
    lost = torch.zeros(text.ids.numel(), masks.shape[1])
    for step in Walk(model, text.ids):
        if step.index in layers:
            squares = neuron_sizes(step.block, step.x).square()
            kept = squares @ masks[layers.index(step.index)].float().T
            lost += (1 - kept / squares.sum(-1, keepdim=True).clamp(min=1e-12)).clamp(min=0)
    return lost / len(layers)


def train_router(model: Any, text: Text, lost: Tensor, seed: int) -> SharedRouter:
    """Train a router to choose the expert with the smallest predicted loss; lost is [tokens, experts]."""
    torch.manual_seed(seed)
    embedding = model.get_input_embeddings().weight.detach()
    router = SharedRouter(embedding.shape[1], lost.shape[1], ROUTER_RANK)
    costs = (lost / lost.std().clamp(min=1e-12)).view(*text.ids.shape, -1)
    optimizer = torch.optim.AdamW(router.parameters(), lr=ROUTER_RATE, weight_decay=0.1)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, ROUTER_STEPS)
    for _ in range(ROUTER_STEPS):
        rows = torch.randint(len(text.ids), (ROUTER_BATCH,))
        scores, _ = router(embedding[text.ids[rows]])
        expected = (scores.softmax(-1) * costs[rows]).sum(-1).mean()
        optimizer.zero_grad()
        expected.backward()
        optimizer.step()
        schedule.step()
    return router


def split(model: Any, config: MoEConfig, means: Tensor, masks: Tensor) -> dict[int, MoE]:
    """Make the mixtures: a shared expert of the common neurons, and an expert of the rest of each mask."""
    blocks = {}
    for index, mask, mean in zip(config.layers, masks, means, strict=True):
        mlp = block_of(model, index)
        block = blocks[index] = make_layer(config, mlp)
        common = torch.where(mask.all(dim=0), mean.mean(dim=0), -torch.inf)
        shared = common.topk(config.shared_width).indices
        if config.shared_width:
            fill_shared(block.shared_expert, mlp, shared)
        for e in range(config.experts):
            own = mask[e].clone()
            own[shared] = False
            fill_expert(block.experts, e, mlp, own.nonzero()[:, 0])
    return blocks
