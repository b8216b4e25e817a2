"""Small models with experts, for comparisons of gates: a character model of text and a classifier of digits.

`train` gives every gate the same number of multiply-adds, whatever the number of its experts, and the same
schedule of the learning rate over them.
"""

from __future__ import annotations

import argparse
import math
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from shortlist.torch import Experts, Gate, MoE, after_step, auxiliary_losses, moe_layers, set_progress

TEXT = Path(__file__).parents[2] / "benchmarks" / "data" / "shakespeare-plays.txt"
MakeGate = Callable[[int, int], Gate]  # of a width and a number of experts


class Batch(NamedTuple):
    """Inputs, token ids or pixels, and the classes [...] to be predicted."""

    inputs: Tensor
    targets: Tensor


class Text:
    """Characters of a text, its last tenth for validation; a batch is 8 windows of 64."""

    classes: int

    def __init__(self, path: Path = TEXT, windows: int = 8, length: int = 64):
        text = path.read_text(encoding="utf-8")
        alphabet = {character: i for i, character in enumerate(sorted(set(text)))}
        ids = torch.tensor([alphabet[character] for character in text])
        self.classes = len(alphabet)
        self.length = length
        self.windows = windows
        self.train, self.test = ids.tensor_split([len(ids) * 9 // 10])

    def batch(self, generator: torch.Generator) -> Batch:
        starts = torch.randint(len(self.train) - self.length, (self.windows, 1), generator=generator)
        window = self.train[starts + torch.arange(self.length + 1)]
        return Batch(window[:, :-1], window[:, 1:])

    def validation(self, batches: int = 32) -> Iterator[Batch]:
        size = self.windows * self.length
        for start in range(0, batches * size, size):
            window = self.test[start : start + size + 1]
            yield Batch(
                window[:-1].view(self.windows, self.length), window[1:].view(self.windows, self.length)
            )

    def model(self, make_gate: MakeGate, experts: int) -> CharacterModel:
        return CharacterModel(self.classes, self.length, make_gate, experts)


class Digits:
    """scikit-learn's 1,797 digits of 8 x 8 pixels, a quarter for validation; a batch is 128 of them."""

    classes = 10

    def __init__(self, size: int = 128, seed: int = 0):
        from sklearn.datasets import load_digits

        pixels, labels = load_digits(return_X_y=True)
        order = torch.randperm(len(labels), generator=torch.Generator().manual_seed(seed))
        x, y = torch.tensor(pixels, dtype=torch.float32)[order] / 8 - 1, torch.tensor(labels)[order]
        parts = [len(y) * 3 // 4]
        (self.x, self.test_x), (self.y, self.test_y) = x.tensor_split(parts), y.tensor_split(parts)
        self.size = size

    def batch(self, generator: torch.Generator) -> Batch:
        chosen = torch.randint(len(self.y), (self.size,), generator=generator)
        return Batch(self.x[chosen], self.y[chosen])

    def validation(self) -> Iterator[Batch]:
        yield Batch(self.test_x, self.test_y)

    def model(self, make_gate: MakeGate, experts: int) -> DigitModel:
        return DigitModel(make_gate, experts)


class CharacterModel(nn.Module):
    """A decoder of one layer of width 64, its feed-forward part gated experts of 64 neurons each."""

    def __init__(self, classes: int, length: int, make_gate: MakeGate, experts: int, width: int = 64):
        super().__init__()
        self.tokens = nn.Embedding(classes, width)
        self.places = nn.Embedding(length, width)
        self.layer = _Layer(width, make_gate, experts)
        self.head = nn.Sequential(nn.RMSNorm(width), nn.Linear(width, classes, bias=False))

    def forward(self, ids: Tensor) -> Tensor:
        x = self.tokens(ids) + self.places.weight[: ids.shape[1]]
        return self.head(self.layer(x, ids))


class _Layer(nn.Module):
    def __init__(self, width: int, make_gate: MakeGate, experts: int, heads: int = 4):
        super().__init__()
        self.heads = heads
        self.norms = nn.ModuleList(nn.RMSNorm(width) for _ in range(2))
        self.qkv = nn.Linear(width, 3 * width, bias=False)
        self.out = nn.Linear(width, width, bias=False)
        self.experts = MoE(make_gate(width, experts), Experts(experts, width, width))

    def forward(self, x: Tensor, ids: Tensor) -> Tensor:
        q, k, v = self.qkv(self.norms[0](x)).unflatten(-1, (3 * self.heads, -1)).transpose(1, 2).chunk(3, 1)
        mixed = F.scaled_dot_product_attention(q, k, v, is_causal=True)
        x = x + self.out(mixed.transpose(1, 2).flatten(-2))
        return x + self.experts(self.norms[1](x), ids)


class DigitModel(nn.Module):
    """Pixels to width 32, one layer of gated experts of 32 neurons, ten classes.

    A digit has no token id; what a gate by id gets instead is a number for how bright the picture is.
    """

    def __init__(self, make_gate: MakeGate, experts: int, width: int = 32):
        super().__init__()
        self.pixels = nn.Linear(64, width)
        self.norm = nn.RMSNorm(width)
        self.experts = MoE(make_gate(width, experts), Experts(experts, width, width))
        self.head = nn.Linear(width, 10)

    def forward(self, pixels: Tensor) -> Tensor:
        x = self.pixels(pixels).relu()
        return self.head(x + self.experts(self.norm(x), pixels.sum(-1).long()))


@dataclass(frozen=True)
class Training:
    """How a model is trained: all gates alike, but for the weights of their auxiliary losses."""

    steps: int  # of a gate with `k` experts for every token; others have what costs as much
    k: int = 2
    experts: int = 8
    rate: float = 6e-3  # of Adam, after a tenth of warm-up, then along a cosine to a tenth
    weights: Mapping[str, float] = field(default_factory=lambda: {"load_balance": 0.01, "router_z": 0.001})


@dataclass(frozen=True)
class Result:
    """What came of it on the validation part; imbalance is the busiest expert's load in units of the mean."""

    loss: float
    accuracy: float
    active: float
    imbalance: float
    steps: int
    step_ms: float  # the fastest of the second half, when annealed gates are sparse
    history: list[tuple[int, float]]  # steps, active experts in training


def train(task: Text | Digits, make_gate: MakeGate, seed: int, training: Training) -> Result:
    """Train a new model, until what it was allowed to compute is spent."""
    torch.manual_seed(seed)
    generator = torch.Generator().manual_seed(seed)
    model = task.model(make_gate, training.experts)
    optimizer = torch.optim.AdamW(model.parameters(), lr=training.rate, weight_decay=0.01)
    always, expert = _multiply_adds(model)
    spent, budget = 0.0, training.steps * (always + training.k * expert)
    steps, times, history = 0, [], []
    while spent < budget:
        progress = spent / budget
        set_progress(model, progress)
        for group in optimizer.param_groups:
            group["lr"] = training.rate * min(
                10 * progress + 0.02, 0.55 + 0.45 * math.cos(math.pi * progress)
            )
        start = time.perf_counter()
        loss = cross_entropy(model, task.batch(generator))
        extra = auxiliary_losses(model)
        total = loss + sum(weight * extra[name] for name, weight in training.weights.items() if name in extra)
        optimizer.zero_grad()
        total.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        after_step(model)
        times.append(time.perf_counter() - start)
        active = _mean(layer.routing.active for layer in moe_layers(model) if layer.routing)
        history.append((steps, active))
        spent += always + active * expert
        steps += 1
    set_progress(model, 1.0)
    step_ms = 1e3 * min(times[steps // 2 :])  # what else the machine does only adds to a time
    return Result(*evaluate(model, task), steps, step_ms, history)


def task_arguments(
    description: str | None, tasks: tuple[str, ...] = ("digits", "text")
) -> argparse.Namespace:
    """`--text`, a file, and `--tasks`, some or all of those that a script measures."""
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--text", type=Path, default=TEXT, help="a text file (default: Shakespeare's plays)")
    parser.add_argument("--tasks", nargs="+", choices=tasks, default=list(tasks), help="(default: all)")
    return parser.parse_args()


def cross_entropy(model: nn.Module, batch: Batch) -> Tensor:
    return F.cross_entropy(model(batch.inputs).flatten(0, -2), batch.targets.flatten())


@torch.no_grad()
def evaluate(model: nn.Module, task: Text | Digits) -> tuple[float, float, float, float]:
    """Loss in nats, accuracy, active experts and imbalance; of the last two the mean over layers."""
    model.eval()
    losses, hits, loads, count = [], [], 0, 0
    for batch in task.validation():
        logits = model(batch.inputs).flatten(0, -2)
        losses.append(F.cross_entropy(logits, batch.targets.flatten()))
        hits.append((logits.argmax(-1) == batch.targets.flatten()).float().mean())
        loads = loads + torch.stack([layer.routing.load for layer in moe_layers(model) if layer.routing])
        count += batch.targets.numel()
    model.train()
    loads = torch.as_tensor(loads).float()
    imbalance = (loads.amax(1) / loads.mean(1)).mean().item()
    return _mean(losses), _mean(hits), loads.sum(1).mean().item() / count, imbalance


def _multiply_adds(model: nn.Module) -> tuple[float, float]:
    """Of a token: what is always computed, and what one more expert in every layer costs."""
    expert = sum(p[0].numel() for layer in moe_layers(model) for p in layer.experts.parameters())
    experts = sum(p.numel() for layer in moe_layers(model) for p in layer.experts.parameters())
    return sum(p.numel() for p in model.parameters()) - experts, expert


def _mean(values: Iterator[Tensor] | list[Tensor]) -> float:
    return torch.stack([*values]).float().mean().item()
