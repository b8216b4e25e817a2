"""What a gate is: it estimates a score for every expert, and selects those that compute a token."""

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

    Pairs let every gate speak the same language: the number of experts may differ from token to token, and
    a token may have none.

    Parameters
    ----------
    tokens : int64 [pairs]
        In ascending order.
    experts : int64 [pairs]
        No pair occurs twice.
    weights : float [pairs]
        What the expert's output is multiplied with; gradients flow through it to the router.
    shape
        Numbers of tokens and of experts.
    losses
        Auxiliary losses by name, scalars, not yet weighted.
    stats
        What is worth a plot, by name, detached.
    padded
        How many of the tokens are padding, which no expert computes.
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
        """From weights and experts [tokens, k], the same number for every token, of `total` experts."""
        tokens = torch.arange(len(experts), device=experts.device).repeat_interleave(experts.shape[1])
        return cls(tokens, experts.flatten(), weights.flatten(), (len(experts), total), **rest)

    @classmethod
    def of_mask(cls, weights: Tensor, mask: Tensor, **rest: Any) -> "Routing":
        """From weights [tokens, experts] and the pairs that a mask of the same shape keeps."""
        tokens, experts = mask.nonzero(as_tuple=True)
        return cls(tokens, experts, weights[tokens, experts], (mask.shape[0], mask.shape[1]), **rest)

    @property
    def load(self) -> Tensor:
        """Pairs of each expert, int64 [experts]."""
        return load_of(self.experts, self.shape[1])

    @property
    def active(self) -> Tensor:
        """Experts of a token that is not padding, on average."""
        return self.load.sum() / max(self.shape[0] - self.padded, 1)

    @property
    def imbalance(self) -> Tensor:
        """Load of the busiest expert in units of the mean load: 1 where all are equally busy."""
        load = self.load.float()
        return load.max() / load.mean().clamp(min=1 / self.shape[1])

    def among(self, rows: Tensor, total: int) -> "Routing":
        """The same pairs, where the tokens are rows [tokens], ascending, of `total` that include padding."""
        return replace(
            self, tokens=rows[self.tokens], shape=(total, self.shape[1]), padded=total - self.shape[0]
        )

    def dense(self) -> Tensor:
        """The weights as a matrix [tokens, experts], zero off the shortlist."""
        return self.weights.new_zeros(self.shape).index_put((self.tokens, self.experts), self.weights)


class Gate(nn.Module, ABC):
    """Estimates a score for every expert from token states, and selects.

    Parameters
    ----------
    width
        Of a token's state.
    experts
        How many there are.

    Attributes
    ----------
    progress : float
        From 0, the start of training, to 1, its end: what is annealed follows it. Training sets it
        (`set_progress` of a model does so for all of its gates).
    gives : frozenset of str
        Names of the losses of its `Routing`.
    router_dtype : torch.dtype or None
        The narrowest type that scores are computed in, whatever autocast or the type of the states says:
        float32, since in bfloat16 some tokens get other experts. None leaves it to PyTorch.
    group
        Processes whose tokens are balanced together, as `torch.distributed` knows them; None: all.
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
        """The shortlist that scores [tokens, experts] lead to, with weights and losses."""

    def forward(self, x: Tensor, token_ids: Tensor | None = None) -> Routing:
        """The shortlist for states [tokens, width]; `token_ids` [tokens] serve gates that ask for them."""
        return self.select(self.estimate(x))

    def after_step(self) -> None:
        """To be called after every step of the optimizer: gates that balance without a loss adjust here.

        Where `torch.distributed` runs every process must call it, also one that had no tokens.
        """
        counted = self.tally.take(self.group) if self.tally else None
        if counted is not None:
            self.adjust(**counted)

    def adjust(self, **counted: Tensor) -> None:
        """What `tally` counted on all processes since the last step changes the gate's buffers."""

    def computed(self, module: nn.Module, x: Tensor) -> Tensor:
        """What a module of the gate makes of states, in `router_dtype` or a wider type."""
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
        # Biases, prices and centroids add up small steps, which bfloat16 would lose.
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
        # Groups of processes cannot be copied: a copy belongs to all.
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
    """A gate whose softmax becomes sharper with `progress`, which its `state_dict` keeps.

    Parameters
    ----------
    width, experts
        As for every gate.
    k
        Most experts of a token when `progress` is 1.
    start, end
        Temperatures of the softmax, which falls from one to the other in equal ratios.
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
        """Of the softmax now, a scalar."""
        return self.start * (self.end / self.start) ** self.annealed


class Wrapper(Gate):
    """A gate around another one: what a wrapper does not change is as the gate inside has it."""

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
        """As the gate inside."""
        return self.gate.estimate(x)

    def select(self, scores: Tensor) -> Routing:
        """As the gate inside."""
        return self.gate.select(scores)

    def forward(self, x: Tensor, token_ids: Tensor | None = None) -> Routing:
        """As the gate inside."""
        return self.gate(x, token_ids)

    def after_step(self) -> None:
        """As the gate inside."""
        self.gate.after_step()


def added_up(weights: Tensor) -> Tensor:
    """Weights [tokens, k] divided by their sums.

    A single one stays as it is: it would be 1 whatever the router says, and the router would learn nothing.
    """
    return weights / weights.sum(-1, keepdim=True) if weights.shape[-1] > 1 else weights


def checked_k(k: int, experts: int) -> int:
    """`k`, if so many experts exist."""
    if not 1 <= k <= experts:
        raise UsageError(f"k must be from 1 to the number of experts, {experts}, not {k}")
    return k
