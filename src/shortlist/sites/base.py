"""What a site is: a place of a model where units are shortlisted; and a part: what is done at one.

A site's name is `head`, or a layer's: `layers.3.neurons`, `layers.3.experts`, and the inputs of its matrices,
`layers.3.qkv`, `.o`, `.gate_up` and `.down`. The last word is its kind.
"""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any, ClassVar, Literal, NamedTuple

from shortlist import _native
from shortlist.checkpoints.base import Checkpoint
from shortlist.checkpoints.packing import pack_matrix
from shortlist.errors import UsageError
from shortlist.estimators.base import Array, Estimator, State, table_rows
from shortlist.registry import Registry
from shortlist.selectors.base import Selector

Way = Literal["dense", "estimated", "exact"]
"""How a site is read: all units; those that an estimate leaves; those that provably suffice."""

MATRICES = {"qkv": ("q", "k", "v"), "o": ("o",), "gate_up": ("gate", "up"), "down": ("down",)}
"""The kinds of inputs of a layer, and the matrices that share each."""

_NAME = re.compile(r"(?:layers\.(?P<layer>0|[1-9][0-9]*)\.)?(?P<kind>[a-z_]+)")


class Reach(NamedTuple):
    """How a pair of estimator and selector runs at a kind of site; where it is refused, why."""

    how: Literal["natively", "in Python", "refused"]
    reason: str | None = None


@dataclass(frozen=True, repr=False)
class Part:
    """What is done at one site.

    Attributes
    ----------
    estimator, selector
    units, width : int
        Shape of the table that the estimator was fitted on.
    state : dict of arrays
        What `estimator.fit` returned; empty where the state is made of the table alone (`from_table`), which
        the site then does when it is installed.

    Raises
    ------
    UsageError
        The selector needs what the estimator does not give.
    ValueError
        The state does not belong to the estimator and the table.
    """

    estimator: Estimator
    selector: Selector
    units: int
    width: int
    state: State

    def __post_init__(self) -> None:
        self.selector.check(self.estimator.name, self.estimator.gives)
        if self.state or not self.estimator.from_table:
            self.estimator.check(self.state, self.units, self.width)

    def __repr__(self) -> str:
        return f"<Part {self.units} x {self.width}: {self.estimator}, {self.selector}>"

    @property
    def way(self) -> Way:
        """Exact where the shortlist always holds the units that count, else estimated."""
        return "exact" if self.selector.name == "certified" or self.estimator.name == "exact" else "estimated"


class Site(ABC):
    """A place of one checkpoint where units are shortlisted.

    Parameters
    ----------
    name : str
        Such as `head` or `layers.3.qkv`.
    checkpoint : Checkpoint
        Open. Its tensors' shapes are read now, their data when they are asked for.

    Attributes
    ----------
    tensors : list of str
        The matrices whose bytes a shortlist saves.
    units, width : int
        Shape of the table.

    Raises
    ------
    UsageError
        The checkpoint has no such site.
    """

    natively: ClassVar[frozenset[tuple[str, str]]] = frozenset()
    """Names of the estimators and selectors that have a native kernel here."""
    in_python: ClassVar[bool] = False
    """Whether every other pair runs in Python: only between passes, as a layer is one native call."""

    tensors: list[str]
    units: int
    width: int

    def __init__(self, name: str, checkpoint: Checkpoint):
        self.name, self.checkpoint = name, checkpoint
        self.layer, self.kind = split_name(name)
        if reason := self.missing(checkpoint, self.layer, self.kind):
            raise UsageError(f"there is no site {name} in this model, because {reason}: leave it out")

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.name}: {self.units} x {self.width}>"

    @classmethod
    def missing(cls, checkpoint: Checkpoint, layer: int | None, kind: str) -> str | None:
        """Why a layer of a checkpoint has no site of a kind; None where it has one."""
        return None

    @classmethod
    def reach(cls, estimator: Estimator, selector: Selector) -> Reach:
        """How this pair runs at this kind of site, whatever the model."""
        try:
            selector.check(estimator.name, estimator.gives)
        except UsageError as error:
            return Reach("refused", str(error))
        if (estimator.name, selector.name) in cls.natively:
            return Reach("natively")
        if cls.in_python:
            return Reach("in Python")
        able = " or ".join(f"{one} with {other}" for one, other in sorted(cls.natively))
        pair = f"{estimator.name} with {selector.name}"
        return Reach("refused", f"{pair} has no native kernel here: choose {able}")

    @classmethod
    def refusal(cls, estimator: Estimator, selector: Selector) -> str | None:
        """Why this pair does not run at this kind of site; None where it does."""
        return cls.reach(estimator, selector).reason

    def check(self, part: Part) -> None:
        """Raise `UsageError` where a part does not fit this site of this checkpoint."""
        if reason := self.refusal(part.estimator, part.selector):
            raise UsageError(f"{self.name}: {reason}")
        if (part.units, part.width) != (self.units, self.width):
            raise UsageError(
                f"the part of {self.name} has {part.units} units of width {part.width} where the model has "
                f"{self.units} of {self.width}: fit it to this model"
            )

    def part(self, estimator: Estimator, selector: Selector, state: State | None = None) -> Part:
        """What is done at this site, with the shape of its table."""
        return Part(estimator, selector, self.units, self.width, state or {})

    @abstractmethod
    def table(self, weights: str = "") -> Array:
        """The matrix that an estimator is fitted on, an array [units, width] or a `PackedTable`.

        Parameters
        ----------
        weights : {"", "q8", "q4"}
            What float matrices are quantized to.
        """

    def product(self, query: Array, indices: Array) -> Array:
        """What the listed units come to for a query: the readable twin of the native product."""
        return table_rows(self.table(), indices, query) @ query

    def unit_bytes(self, weights: str = "") -> float:
        """Bytes that one unit more on the shortlist costs."""
        return self.nbytes(weights) / self.units

    def nbytes(self, weights: str = "") -> int:
        """Bytes of the site's matrices, packed."""
        return sum(self._matrix(name, weights).nbytes for name in self.tensors)

    @abstractmethod
    def install(self, part: Part, into: Any) -> Any:
        """Make the native objects that read this site as `part` says.

        Parameters
        ----------
        part : Part
            That `check` let through.
        into : Any
            What a site of this kind is installed in: the decoder, or the `Packing` of a layer.
        """

    def _matrix(self, name: str, weights: str) -> _native.Rows:
        return pack_matrix(self.checkpoint, name, weights, _native.Arena())


@dataclass
class Packing:
    """How the matrices of a layer are packed, and where to."""

    weights: str
    arena: _native.Arena


def sites_of(checkpoint: Checkpoint, kind: str) -> list[Site]:
    """Every site of a kind that a checkpoint has, layer by layer."""
    found = SITES[kind]
    layers = [None] if kind == "head" else range(checkpoint.config.layers)
    return [
        found(kind if layer is None else f"layers.{layer}.{kind}", checkpoint)
        for layer in layers
        if not found.missing(checkpoint, layer, kind)
    ]


def split_name(name: str) -> tuple[int | None, str]:
    """Layer and kind of a site's name: (3, "qkv") of `layers.3.qkv`, (None, "head") of `head`.

    Raises
    ------
    UsageError
        No site has such a name.
    """
    found = _NAME.fullmatch(name)
    if found is None or found["kind"] not in SITES or (found["layer"] is None) != (found["kind"] == "head"):
        kinds = ", ".join(f"layers.N.{kind}" for kind in SITES if kind != "head")
        raise UsageError(f"there is no site {name}: name head, or one such as {kinds}")
    return None if found["layer"] is None else int(found["layer"]), found["kind"]


def site_class(name: str) -> type[Site]:
    """The class of the site of this name, whatever the model.

    Raises
    ------
    UsageError
        No site has such a name.
    """
    return SITES[split_name(name)[1]]


SITES: Registry[type[Site]] = Registry(
    "shortlist.sites",
    {
        "head": "head:HeadSite",
        "neurons": "neurons:NeuronSite",
        "experts": "experts:ExpertSite",
        "qkv": "channels:ChannelSite",
        "o": "channels:ChannelSite",
        "gate_up": "channels:ChannelSite",
        "down": "channels:ChannelSite",
    },
)
"""The kinds of sites that a recipe may name."""
