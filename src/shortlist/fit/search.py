"""Search for a recipe: one loop over the sites of a model, each shortlisted where that saves time."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from shortlist.fit.channels import ChannelTuner
from shortlist.fit.head import HeadTuner
from shortlist.fit.neurons import NeuronTuner
from shortlist.fit.tuner import Change, Tuner, Work
from shortlist.recipe import Recipe
from shortlist.sites.base import sites_of

TUNERS: tuple[type[Tuner], ...] = (NeuronTuner, HeadTuner, ChannelTuner)


@dataclass(frozen=True)
class Rung:
    """A recipe, and how it came from the one that its tuner began with; the rung below costs less."""

    recipe: Recipe
    base: Recipe | None = None
    tuner: Tuner | None = None
    change: Change | None = None


class Search:
    """Builds recipes, each faster than the last and within the limit as far as tuning text can tell.

    Whenever it is interrupted, `rungs` holds what was found so far.

    Parameters
    ----------
    work : Work
    limit : float
        Nats per token that the whole recipe may cost.

    Attributes
    ----------
    rungs : list of Rung
        From all dense to the fastest.
    """

    def __init__(self, work: Work, limit: float):
        self._work, self._limit = work, limit
        dense = dict.fromkeys(["head", *(site.name for site in sites_of(work.checkpoint, "neurons"))])
        self.rungs = [Rung(Recipe(work.name, work.checkpoint.fingerprint, dense))]

    @property
    def recipe(self) -> Recipe:
        """The best so far."""
        return self.rungs[-1].recipe

    def run(self) -> None:
        """Look at all sites, in the order of `TUNERS`."""
        for kind in TUNERS:
            self._tune(kind(self._work))

    def _tune(self, tuner: Tuner) -> None:
        base, below = self.recipe, len(self.rungs)
        try:
            for change in tuner.changes(base, self._limit):
                if tuner.in_place:
                    del self.rungs[below:]
                self.rungs.append(Rung(changed(base, change), base, tuner, change))
            if len(self.rungs) > below and not tuner.pays(base, self.recipe):
                del self.rungs[below:]
        finally:
            self._note(tuner.notes)
        self._limit -= sum(rung.change.loss for rung in self.rungs[below:] if rung.change)

    def lower(self) -> None:
        """Replace the last of `rungs` by one that costs less."""
        last = self.rungs.pop()
        if last.tuner and last.base and last.change and (change := last.tuner.lower(last.change)):
            self.rungs.append(Rung(changed(last.base, change), last.base, last.tuner, change))

    def _note(self, notes: Mapping[str, Any]) -> None:
        """Keep what was measured with the best recipe so far."""
        recipe = replace(self.recipe, measured={**self.recipe.measured, **notes})
        self.rungs[-1] = replace(self.rungs[-1], recipe=recipe)


def changed(recipe: Recipe, change: Change) -> Recipe:
    """A recipe with the parts of a change, and what was measured of them."""
    sites = {**recipe.sites, **change.parts}
    return replace(recipe, sites=sites, measured={**recipe.measured, **change.measured})
