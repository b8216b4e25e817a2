"""The interface of a gate: it estimates a score for every expert and selects experts for each token."""

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call

from shortlist.errors import UsageError
from shortlist.torch.gates.tally import Tally
from shortlist.torch.numerics import load_of, without_autocast


@dataclass(frozen=True)
class Routing:
    """The shortlist of experts for a batch of tokens, as pairs of a token and an expert that computes it.

    Pairs serve every gate: the number of experts may differ from token to token, and a token may have none.

    Parameters
    ----------
    tokens : int64 [pairs]
        The token of each pair, in ascending order.
    experts : int64 [pairs]
        The expert of each pair; no pair occurs twice.
    weights : float [pairs]
        Factors of the experts' outputs; gradients reach the router through them.
    shape
        Number of tokens and number of experts.
    losses
        Auxiliary losses by name, scalars, not yet weighted.
    stats
        Values for plots, by name, detached.
    padded
        Number of padding tokens, which no expert computes.
    """

    tokens: Tensor
    experts: Tensor
    weights: Tensor
    shape: tuple[int, int]
    losses: dict[str, Tensor] = field(default_factory=dict)
    stats: dict[str, Tensor] = field(default_factory=dict)
    padded: int = 0

    @classmethod
    def of_top_k(cls, weights: Tensor, experts: Tensor, total: int, **rest: Any) -> "Routing":
        """Make a routing from weights and experts [tokens, k], with k of `total` experts for every token."""
        tokens = torch.arange(len(experts), device=experts.device).repeat_interleave(experts.shape[1])
        return cls(tokens, experts.flatten(), weights.flatten(), (len(experts), total), **rest)

    @classmethod
    def of_mask(cls, weights: Tensor, mask: Tensor, **rest: Any) -> "Routing":
        """Make a routing from weights [tokens, experts] and a mask of the same shape that keeps pairs."""
        tokens, experts = mask.nonzero(as_tuple=True)
        return cls(tokens, experts, weights[tokens, experts], (mask.shape[0], mask.shape[1]), **rest)

    @property
    def load(self) -> Tensor:
        """Number of pairs of each expert, int64 [experts]."""
        return load_of(self.experts, self.shape[1])

    @property
    def active(self) -> Tensor:
        """Mean number of experts of a token that is not padding."""
        return self.load.sum() / max(self.shape[0] - self.padded, 1)

    @property
    def imbalance(self) -> Tensor:
        """Largest load of an expert divided by the mean load: 1 where all loads are equal."""
        load = self.load.float()
        return load.max() / load.mean().clamp(min=1 / self.shape[1])

    def among(self, rows: Tensor, total: int) -> "Routing":
        """The same pairs in a batch of `total` tokens with padding; token i is row `rows[i]` (ascending)."""
        return replace(
            self, tokens=rows[self.tokens], shape=(total, self.shape[1]), padded=total - self.shape[0]
        )

    def dense(self) -> Tensor:
        """The weights as a matrix [tokens, experts], zero off the shortlist."""
        return self.weights.new_zeros(self.shape).index_put((self.tokens, self.experts), self.weights)


class Gate(nn.Module, ABC):
    """Estimates a score for every expert from token states, and selects experts.

    Parameters
    ----------
    width
        Width of a token's state.
    experts
        Number of experts.

    Attributes
    ----------
    progress : float
        Progress of training, from 0 to 1; annealed values depend on it. The training loop sets it
        (`set_progress` does so for all gates of a model).
    gives : frozenset of str
        Names of the losses that its `Routing` has.
    router_dtype : torch.dtype or None
        The narrowest type in which scores are computed, whatever autocast or the type of the states says.
        It is float32, because in bfloat16 some tokens get other experts. None leaves the type to PyTorch.
    group
        The process group of `torch.distributed` whose tokens are balanced together; None: all processes.
    """

    gives: frozenset[str] = frozenset()
    progress = 0.0
    router_dtype: torch.dtype | None = torch.float32
    group: Any = None
    tally: Tally | None = None

    def __init__(self, width: int, experts: int):
        super().__init__()
        if width < 1 or experts < 1:
            raise UsageError(f"a gate needs a width and experts of at least 1, not {width} and {experts}")
        self.width = width
        self.experts = experts

    @abstractmethod
    def estimate(self, x: Tensor) -> Tensor:
        """Scores [tokens, experts] of token states [tokens, width]."""

    @abstractmethod
    def select(self, scores: Tensor) -> Routing:
        """The shortlist for scores [tokens, experts], with weights and losses."""

    def forward(self, x: Tensor, token_ids: Tensor | None = None) -> Routing:
        """The shortlist for states [tokens, width]; some gates need `token_ids` [tokens]."""
        return self.select(self.estimate(x))

    def after_step(self) -> None:
        """Adjust a gate that balances without a loss. Call it after every step of the optimizer.

        Where `torch.distributed` runs, every process must call it, even a process without tokens.
        """
        counted = self.tally.take(self.group) if self.tally else None
        if counted is not None:
            self.adjust(**counted)

    def adjust(self, **counted: Tensor) -> None:
        """Change the gate's buffers by the sums that `tally` counted on all processes since the last step."""

    def computed(self, module: nn.Module, x: Tensor) -> Tensor:
        """The output of a module of the gate for states, in `router_dtype` or a wider type."""
        if self.router_dtype is None:
            return module(x)
        with without_autocast(x):
            given = dict(module.named_parameters())
            dtype = torch.promote_types(x.dtype, self.router_dtype)
            for parameter in given.values():
                dtype = torch.promote_types(dtype, parameter.dtype)
            narrow = {name: p.to(dtype) for name, p in given.items() if p.dtype != dtype}
            return functional_call(module, narrow, (x.to(dtype),)) if narrow else module(x.to(dtype))

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> "Gate":
        # Biases, prices and centroids are sums of small steps, which bfloat16 would round away.
        before = dict(self.named_buffers(recurse=False))
        super()._apply(fn, recurse)
        for name, buffer in before.items():
            now = self.get_buffer(name)
            if now.dtype != torch.promote_types(now.dtype, buffer.dtype):
                self._buffers[name] = buffer.to(now.device)
        if self.tally is not None:
            self.tally.apply(fn)
        return self

    def __getstate__(self) -> dict:
        # Process groups cannot be copied: a copy belongs to the group of all processes.
        return {key: value for key, value in super().__getstate__().items() if key != "group"}


class LinearGate(Gate):
    """A gate whose scores are the logits of one linear layer, `router`."""

    def __init__(self, width: int, experts: int):
        super().__init__(width, experts)
        self.router = nn.Linear(width, experts, bias=False)

    def estimate(self, x: Tensor) -> Tensor:
        """Router logits."""
        return self.computed(self.router, x)


class AnnealedGate(LinearGate):
    """A gate whose softmax becomes sharper with `progress`; its `state_dict` includes the progress.

    Parameters
    ----------
    width, experts
        See `Gate`.
    k
        Largest number of experts of a token when `progress` is 1.
    start, end
        First and last temperature of the softmax; it falls geometrically from `start` to `end`.
    """

    annealed: Tensor

    def __init__(self, width: int, experts: int, k: int = 2, *, start: float = 2.0, end: float = 0.3):
        super().__init__(width, experts)
        self.k = checked_k(k, experts)
        self.start = start
        self.end = end
        self.register_buffer("annealed", torch.zeros(()))

    @property
    def progress(self) -> float:
        return self.annealed.item()

    @progress.setter
    def progress(self, value: float) -> None:
        self.annealed.fill_(value)

    @property
    def temperature(self) -> Tensor:
        """The present temperature of the softmax, a scalar."""
        return self.start * (self.end / self.start) ** self.annealed


class Wrapper(Gate):
    """A gate around another gate; by default it passes everything on to the inner gate."""

    def __init__(self, gate: Gate):
        super().__init__(gate.width, gate.experts)
        self.gate = gate
        self.gives = gate.gives

    @property
    def progress(self) -> float:
        return self.gate.progress

    @progress.setter
    def progress(self, value: float) -> None:
        self.gate.progress = value

    def estimate(self, x: Tensor) -> Tensor:
        """The same as the inner gate."""
        return self.gate.estimate(x)

    def select(self, scores: Tensor) -> Routing:
        """The same as the inner gate."""
        return self.gate.select(scores)

    def forward(self, x: Tensor, token_ids: Tensor | None = None) -> Routing:
        """The same as the inner gate."""
        return self.gate(x, token_ids)

    def after_step(self) -> None:
        """The same as the inner gate."""
        self.gate.after_step()


def added_up(weights: Tensor) -> Tensor:
    """Weights [tokens, k] divided by their sums.

    A single weight is not divided: it would always be 1, and the router would get no gradient.
    """
    return weights / weights.sum(-1, keepdim=True) if weights.shape[-1] > 1 else weights


def checked_k(k: int, experts: int) -> int:
    """Return `k` if there are at least that many experts; raise otherwise."""
    if not 1 <= k <= experts:
        raise UsageError(f"k must be from 1 to the number of experts, {experts}, not {k}")
    return k
