"""Makes experts of neurons that are active together; a small network predicts their output norms."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from shortlist.errors import UsageError
from shortlist.torch import MoE
from shortlist.torch.convert.balanced_kmeans import balanced_kmeans, directions, label_churn
from shortlist.torch.convert.base import (
    ACTIVE,
    GROUP,
    Converted,
    ConvertOptions,
    Method,
    Report,
    Text,
    layers_of,
    neuron_sizes,
    neurons_of,
)
from shortlist.torch.convert.walk import Walk
from shortlist.torch.converted import GateConfig, MoEConfig, install, make_layer
from shortlist.torch.dense_weights import fill_expert
from shortlist.torch.gates.norm_threshold import NormThreshold

POINTS = 1024  # calibration tokens in a clustering
CHURN_DROP, CHURN_REPEATS = 0.1, 2
ROUTER_WIDTH = 64
ROUTER_STEPS, ROUTER_BATCH, ROUTER_RATE = 200, 512, 3e-3
FLOOR = 1e-4  # added to norms before their logarithm


class Cluster(Method):
    """Experts by balanced k-means of neurons, and routers that predict the norms of experts' outputs.

    The clusters are those of MoEfication (https://arxiv.org/abs/2110.01786), the routers and the dynamic
    number of experts those of D2DMoE (https://arxiv.org/abs/2310.04361).

    Neurons are clustered by their magnitudes on calibration tokens. One threshold for all layers is set so
    that the wanted share of neurons runs on average: layers and tokens that need more experts get more.
    """

    experts = 24
    refits = True
    text_weight = 0.0

    def convert(self, model: Any, text: Text, options: ConvertOptions, report: Report) -> Converted:
        layers, experts = layers_of(model, options), options.experts or self.experts
        gate = GateConfig("norm_threshold", tau=1.0, width=ROUTER_WIDTH)
        config = MoEConfig("cluster", experts, expert_width(model, experts), 0, gate, False, layers)
        torch.manual_seed(options.seed)
        blocks: dict[int, Any] = {}
        scores, churns = [], []
        walk = Walk(model, text.ids)
        for step in walk:
            if step.index in layers:
                block: Any = make_layer(config, step.block)
                blocks[step.index] = block
                profiles = neuron_sizes(step.block, _some(step.x, POINTS, options.seed)).T.numpy()
                labels = balanced_kmeans(directions(profiles), experts, options.seed)
                churns.append(label_churn(profiles, experts, CHURN_DROP, CHURN_REPEATS, options.seed))
                for e in range(experts):
                    fill_expert(block.experts, e, step.block, torch.from_numpy(np.flatnonzero(labels == e)))
                scores.append(fit_router(block.gate, step.x, output_norms(block, step.x), options.seed))
            report("convert", (step.index + 1) / len(walk.blocks))
        tau = threshold(scores, options.active or ACTIVE)
        for block in blocks.values():
            block.gate.tau = tau
        config = replace(config, gate=replace(gate, tau=tau))
        install(model, config, blocks)
        return Converted(model, config, {"label churn": float(np.mean(churns))})


def expert_width(model: Any, experts: int) -> int:
    """Number of neurons of an expert, if the layer can be divided into this many experts.

    Raises
    ------
    UsageError
        An expert would not hold whole groups of 32 neurons.
    """
    neurons = neurons_of(model)
    if neurons % (experts * GROUP):
        possible = [e for e in range(2, 257) if neurons % (e * GROUP) == 0]
        raise UsageError(
            f"{neurons} neurons cannot be cut into {experts} experts of whole groups of {GROUP}: "
            f"choose {', '.join(map(str, possible)) or 'another model'}"
        )
    return neurons // experts


@torch.no_grad()
def output_norms(block: MoE, x: Tensor) -> Tensor:
    """Norm of each expert's output, [tokens, experts]."""
    return torch.stack([block.experts.one(x, e).norm(dim=-1) for e in range(block.experts.count)], dim=1)


def fit_router(gate: NormThreshold, x: Tensor, norms: Tensor, seed: int) -> Tensor:
    """Train a gate to predict the logarithms of norms [tokens, experts]; return its predictions for x."""
    targets = (norms + FLOOR).log()
    draw = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        gate.down.bias.copy_(targets.mean(dim=0))
    optimizer = torch.optim.Adam(gate.parameters(), lr=ROUTER_RATE)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, ROUTER_STEPS)
    for _ in range(ROUTER_STEPS):
        rows = torch.randint(len(x), (ROUTER_BATCH,), generator=draw)
        loss = F.mse_loss(gate.estimate(x[rows]), targets[rows])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
    with torch.no_grad():
        return gate.estimate(x)


def threshold(scores: list[Tensor], active: float) -> float:
    """The tau at which a share `active` of experts runs, from scores [tokens, experts] of each layer."""
    behind = torch.cat([(s - s.amax(-1, keepdim=True)).flatten() for s in scores]).numpy()
    return float(np.exp(np.quantile(behind, 1 - active)))


def _some(x: Tensor, count: int, seed: int) -> Tensor:
    return x[torch.randperm(len(x), generator=torch.Generator().manual_seed(seed))[:count]]
