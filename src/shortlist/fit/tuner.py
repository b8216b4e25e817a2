"""What tuning asks of the sites of a model: candidates that pay on this machine, and what each costs."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar

import numpy as np

from shortlist.checkpoints.base import Checkpoint
from shortlist.measure.reference import Reference
from shortlist.model.decoder import Decoder
from shortlist.recipe import Recipe
from shortlist.sites.base import Part

Report = Callable[[str, float], None]  # (stage, share of it that is done)
SITE_TOKENS = 128  # tokens that the loss of one site, or of one kind, is measured on


@dataclass(frozen=True)
class Change:
    """Parts that make a recipe faster, and what they cost.

    Attributes
    ----------
    parts : mapping of str to Part
        By site.
    loss : float
        Nats per token.
    measured : mapping
        What the recipe is to say about them.
    steps : sequence
        How the tuner came to them, for `Tuner.lower`.
    """

    parts: Mapping[str, Part]
    loss: float
    measured: Mapping[str, Any] = field(default_factory=dict)
    steps: Sequence[Any] = ()


class Work:
    """What the tuners of one model share.

    Parameters
    ----------
    checkpoint : Checkpoint
        Open.
    make : callable
        The decoder of the checkpoint, with the `ffn` and `parts` that it is given.
    tokenizer : Tokenizer
    name : str
        The model's, for people.
    text : str
        To tune on.
    weights : {"", "q8", "q4"}
        What `make` quantizes float matrices to.
    min_agreement : float
        Share of greedy tokens that must be the dense ones.
    report : callable
        Called with the stage of the work and the share of it that is done.

    Attributes
    ----------
    dense : Decoder
    tokens : int32 [n]
        The text's.
    """

    def __init__(
        self,
        checkpoint: Checkpoint,
        make: Callable[..., Decoder],
        tokenizer: Any,
        name: str,
        text: str,
        *,
        weights: str = "",
        min_agreement: float = 0.0,
        report: Report = lambda *_: None,
    ):
        self.checkpoint, self.tokenizer, self.name, self.text = checkpoint, tokenizer, name, text
        self.weights, self.min_agreement, self.report = weights, min_agreement, report
        self.tokens = np.array(tokenizer.encode(text, add_special=False), dtype=np.int32)
        self.prefix = tokenizer.encode("")
        self.dense = make(ffn="dense")
        self._make = make

    def decoder(self, sites: Mapping[str, Part | None]) -> Decoder:
        """The decoder of a recipe's sites: `dense` itself where no layer has a shortlist."""
        layers = any(part is not None for name, part in sites.items() if name != "head")
        return self._make(parts=sites) if layers else self.dense

    def reference(self, tokens: int, stage: str) -> Reference:
        """What the dense model predicts of the beginning of the text."""
        rows, cap = self.dense.head_rows, self.dense.logit_cap
        return Reference(self.dense, rows, self.tokens[:tokens], self.prefix, self.stage(stage), cap)

    def stage(self, stage: str) -> Callable[[float], None]:
        """A callable that reports the share of a stage that is done."""
        return lambda share: self.report(stage, share)


class Tuner(ABC):
    """Tunes the sites of one kind, or of a few that share their work.

    Attributes
    ----------
    notes : dict
        What was measured on the way, for the recipe to keep.
    """

    in_place: ClassVar[bool] = False
    """Whether each change takes the place of the one before, rather than being added to it."""

    def __init__(self, work: Work):
        self.work = work
        self.notes: dict[str, Any] = {}

    @abstractmethod
    def changes(self, base: Recipe, limit: float) -> Iterator[Change]:
        """Changes of a recipe that make it faster on this machine, each faster than the one before.

        Parameters
        ----------
        base : Recipe
            What was found at the kinds of sites before.
        limit : float
            Nats per token that all of them may cost.
        """

    def pays(self, base: Recipe, recipe: Recipe) -> bool:
        """Whether a recipe with the last change is faster than without any; looked at once, in the end."""
        return True

    def lower(self, change: Change) -> Change | None:
        """A change that costs less than one that did not hold; None where there is none."""
        return None
