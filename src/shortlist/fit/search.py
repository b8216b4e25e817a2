"""Search for a recipe: neurons, the head, the input channels of layers, each where it saves time."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np

from shortlist.checkpoints.base import Checkpoint
from shortlist.fit.channels import PlaceCandidates, fit_places
from shortlist.fit.head import CHOOSE, FEWEST, MEASURE, RANKS, calibrate_head, exact_part
from shortlist.fit.payoff import step, time_channels
from shortlist.fit.sensitivity import options, sensitivities
from shortlist.fit.spend import Step, plan, spend, steps_by_price
from shortlist.measure.interleaved import take_turns
from shortlist.measure.reference import Reference
from shortlist.model.decoder import Decoder
from shortlist.recipe import Recipe
from shortlist.selectors import Threshold
from shortlist.sites.base import MATRICES, Part, sites_of, split_name
from shortlist.sites.head import Head, exact_head
from shortlist.sites.neurons import neuron_parts, neuron_ways

Report = Callable[[str, float], None]  # (stage, share of it that is done)

# Tokens: what thresholds and changes are measured on, what one place is, and what combinations are.
INPUT_TOKENS, PLACE_TOKENS, TUNE_TOKENS = 128, 128, 512

LOWER = 0.7  # of its expected loss, what a recipe that does not hold is lowered to


@dataclass(frozen=True)
class Rung:
    """A recipe, and the steps that its layers took to it; the rung below costs less."""

    recipe: Recipe
    steps: Sequence[Step] = ()


class Search:
    """Builds recipes, each faster than the last and within the limit as far as tuning text can tell.

    Whenever it is interrupted, `rungs` holds what was found so far.

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
    limit : float
        Nats per token that the whole recipe may cost.
    min_agreement : float
        Share of greedy tokens that must be the dense ones.
    report : callable
        Called with the stage of the work and the share of it that is done.

    Attributes
    ----------
    rungs : list of Rung
        From all dense to the fastest.
    dense : Decoder
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
        limit: float,
        min_agreement: float = 0.0,
        report: Report = lambda *_: None,
    ):
        self._checkpoint, self._make, self._tokenizer = checkpoint, make, tokenizer
        self._name, self._text, self._report = name, text, report
        self._limit, self._min_agreement, self._weights = limit, min_agreement, weights
        self._tokens = np.array(tokenizer.encode(text, add_special=False), dtype=np.int32)
        self.dense = make(ffn="dense")
        recipe = Recipe(name, checkpoint.fingerprint, {"head": None, **_dense_neurons(checkpoint)})
        self.rungs = [Rung(recipe)]

    def run(self) -> None:
        """Look at everything, in this order."""
        self._shortlist_neurons()
        self._shortlist_head()
        self._shortlist_channels()

    @property
    def _recipe(self) -> Recipe:
        return self.rungs[-1].recipe

    def _shortlist_neurons(self) -> None:
        ways = neuron_ways(self._checkpoint)
        if not ways:
            return
        reference = self._reference(PLACE_TOKENS, "neurons")
        decoders = {way: self._make(ffn=way) for way in ways}
        times = take_turns(
            {"dense": step(self.dense, self._tokens)}
            | {way: step(decoder, self._tokens) for way, decoder in decoders.items()}
        )
        for way in sorted(ways, key=lambda way: -times[way].typical):  # the fastest comes last
            loss = reference.measure(decoders[way]).divergence
            if times[way].beat(times["dense"]) and loss <= self._limit:
                self._limit -= max(loss, 0.0)
                self.rungs.append(Rung(self._with(neuron_parts(self._checkpoint, way, {}))))

    def _shortlist_head(self) -> None:
        rows = self.dense.head_rows
        if rows.cols <= min(RANKS):
            self._shortlist_narrow_head()
            return
        long_enough = len(self._tokens) >= FEWEST + CHOOSE + MEASURE
        head = calibrate_head(
            self.dense,
            self._tokenizer,
            self._name,
            text=self._text if long_enough else None,
            report=self._report,
        )
        figures = head.measured["head"]
        seconds = figures["seconds_per_token"]
        if seconds.get("exact", np.inf) < seconds["dense"]:
            self.rungs.append(Rung(self._with({"head": exact_part(self.dense.head_rows)})))
        if seconds["estimated"] == min(seconds.values()):
            self._limit -= max(np.log1p(figures["shortlisted"]["perplexity_change"]), 0.0)
            estimated = head.sites["head"] if head.head == "estimated" else head.alternatives["head"]
            self.rungs.append(Rung(replace(self._with({"head": estimated}), measured=head.measured)))

    def _shortlist_narrow_head(self) -> None:
        rows = self.dense.head_rows
        if rows.format != "q8":
            return
        state = self.dense.forward(self._tokens[:1], self.dense.new_cache(1))[0]
        heads = {"dense": Head(rows), "exact": exact_head(rows)}
        times = take_turns({name: lambda head=head: head.argmax(state) for name, head in heads.items()})
        if times["exact"].beat(times["dense"]):
            self.rungs.append(Rung(self._with({"head": exact_part(rows)})))

    def _shortlist_channels(self) -> None:
        neurons = any(name.endswith(".neurons") for name in self._recipe.shortlisted)
        kinds = ("qkv", "o") if neurons else tuple(MATRICES)
        timed = time_channels(
            self._checkpoint, self._make, self.dense, self._tokens, kinds, self._stage("time channels")
        )
        self._note("channel_seconds", {kind: asdict(payoff) for kind, payoff in timed.items()})
        keeps = {kind: payoff.largest_keep for kind, payoff in timed.items() if payoff.largest_keep}
        if not keeps:
            return
        fitted = fit_places(
            self._checkpoint,
            self._make,
            keeps,
            self._tokens[:INPUT_TOKENS],
            self._tokenizer.encode(""),
            self._stage("fit channels"),
            weights=self._weights,
        )
        base, below = self._recipe, len(self.rungs)
        self._base, self._fitted = base, fitted
        decoder = self._make(parts={**base.sites, **{place: some.part for place, some in fitted.items()}})
        tolerance = sensitivities(
            fitted, decoder, self._reference(PLACE_TOKENS, "measure places"), self._stage("measure places")
        )
        paying = [
            option
            for option in options(fitted, tolerance)
            if option.keep <= keeps[split_name(option.place)[1]] + 0.01  # shares are those of real inputs
        ]
        reference = self._reference(TUNE_TOKENS, "combine")

        def measure(steps: Sequence[Step]) -> float:
            chosen = plan(steps)
            for option in chosen.values():
                decoder.set_threshold(option.place, option.threshold)
            try:
                cost = reference.measure(decoder, self._stage("combine"))
            finally:
                for place in chosen:
                    decoder.set_threshold(place, 0.0)
            if cost.agreement < self._min_agreement:
                return np.inf
            loss = max(cost.divergence, 0.0)
            if loss <= self._limit:
                del self.rungs[below:]
                self.rungs.append(Rung(with_channels(base, fitted, steps), steps))
            return loss

        spend(steps_by_price(paying), self._limit, measure)
        if len(self.rungs) > below and not self._is_faster(self._recipe, base):
            del self.rungs[below:]

    def lower(self) -> None:
        """Replace the last of `rungs` by one that costs less."""
        steps = self.rungs.pop().steps
        expected = np.cumsum([step.loss for step in steps])
        count = int(np.sum(expected <= LOWER * expected[-1])) if len(steps) else 0
        if fewer := steps[: min(count, len(steps) - 1)]:
            self.rungs.append(Rung(with_channels(self._base, self._fitted, fewer), fewer))

    def _is_faster(self, recipe: Recipe, base: Recipe) -> bool:
        """Whether decoding with these channels is faster than without any."""
        ways = {
            name: step(self._make(parts=some.sites), self._tokens)
            for name, some in (("with", recipe), ("without", base))
        }
        times = take_turns(ways, self._stage("time channels"))
        return times["with"].beat(times["without"])

    def _with(self, parts: Mapping[str, Part | None]) -> Recipe:
        """The best recipe so far, with these parts."""
        return replace(self._recipe, sites={**self._recipe.sites, **parts})

    def _note(self, name: str, figures: dict[str, Any]) -> None:
        """Keep what was measured with the best recipe so far."""
        measured = {**self._recipe.measured, name: figures}
        self.rungs[-1] = replace(self.rungs[-1], recipe=replace(self._recipe, measured=measured))

    def _reference(self, tokens: int, stage: str) -> Reference:
        prefix = self._tokenizer.encode("")
        return Reference(
            self.dense,
            self.dense.head_rows,
            self._tokens[:tokens],
            prefix,
            self._stage(stage),
            self.dense.logit_cap,
        )

    def _stage(self, stage: str) -> Callable[[float], None]:
        return lambda share: self._report(stage, share)


def with_channels(recipe: Recipe, fitted: Mapping[str, PlaceCandidates], steps: Sequence[Step]) -> Recipe:
    """A recipe with the channels that the steps come to, and what was measured of each place."""
    parts, places = dict(recipe.sites), {}
    for place, option in plan(steps).items():
        parts[place] = replace(fitted[place].part, selector=Threshold(option.threshold))
        places[place] = {"keep": option.keep, "saved_bytes": option.saved, "loss": option.loss}
    return replace(recipe, sites=parts, measured={**recipe.measured, "places": places})


def _dense_neurons(checkpoint: Checkpoint) -> dict[str, None]:
    return dict.fromkeys(site.name for site in sites_of(checkpoint, "neurons"))
