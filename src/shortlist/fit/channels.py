"""Tune the input channels of a model's layers: what each share saves, what it costs, how far to go.

How much a change of a layer's outputs costs in loss differs between sites, but hardly between the ways to
cause a change of the same size. So the outputs of a site say what every candidate changes, without running
the model, and one run with one of them says what that costs: the site's sensitivity, a finite difference in
place of the gradient with respect to the layer's input (input smoothness, https://arxiv.org/abs/2105.13462).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, ClassVar

import numpy as np

from shortlist.estimators import Magnitude, State
from shortlist.fit.payoff import step, time_channels
from shortlist.fit.spend import Candidate, Step, lowered, plan, spend, steps_by_price
from shortlist.fit.tuner import SITE_TOKENS, Change, Tuner
from shortlist.measure.interleaved import take_turns
from shortlist.measure.reference import Reference
from shortlist.recipe import Recipe
from shortlist.selectors import Threshold
from shortlist.sites.base import MATRICES, Part, Site, sites_of, split_name

KEEPS = (0.9, 0.8, 0.7, 0.6, 0.5, 0.4)
ESTIMATORS = (Magnitude(weighted=False), Magnitude(weighted=True), Magnitude(weighted=True, rest=16))
COMPARED_SAVING = 0.35  # share of a site's bytes at which estimators are compared
COMPARED_LAYERS = 3
PROBED_KEEP = 0.6  # enough left out to be seen, little enough for the loss to grow as it does near dense
INPUT_TOKENS, TUNE_TOKENS = 128, 512  # what thresholds and changes are measured on, and combinations
LOWER = 0.7  # of its expected loss, what a recipe that does not hold is lowered to


@dataclass(frozen=True)
class Fitted:
    """An estimator that was fitted to a site, and what its thresholds do."""

    part: Part
    candidates: tuple[Candidate, ...]

    def at(self, candidate: Candidate) -> Part:
        """The part that lists as this candidate does."""
        return replace(self.part, selector=Threshold(candidate.threshold))


class ChannelTuner(Tuner):
    """Leaves out channels where a byte is cheapest, at as many sites as the limit allows."""

    in_place: ClassVar[bool] = True

    def changes(self, base: Recipe, limit: float) -> Iterator[Change]:
        work = self.work
        neurons = any(name.endswith(".neurons") for name in base.shortlisted)
        sites = {kind: sites_of(work.checkpoint, kind) for kind in MATRICES}
        sites = {kind: some for kind, some in sites.items() if some and (kind in ("qkv", "o") or not neurons)}
        keeps = self._keeps_that_pay(base, sites)
        if not keeps:
            return
        some = [site for kind in keeps for site in sites[kind]]
        unfitted = work.decoder({**base.sites, **unfitted_parts(some)})
        tokens = work.tokens[:INPUT_TOKENS]
        self._fitted = fit_sites(
            some, unfitted, tokens, work.prefix, work.stage("fit channels"), weights=work.weights
        )
        parts = {name: fitted.part for name, fitted in self._fitted.items()}
        decoder = work.decoder({**base.sites, **parts})
        reference = work.reference(SITE_TOKENS, "measure places")
        priced = prices(self._fitted, decoder, reference, work.stage("measure places"))
        most = {kind: keep + 0.01 for kind, keep in keeps.items()}  # shares are those of real inputs
        paying = [found for found in priced if found.keep <= most[split_name(found.site)[1]]]
        together = work.reference(TUNE_TOKENS, "combine")
        for steps, loss in spend(
            steps_by_price(paying), limit, lambda steps: self._loss(steps, decoder, together)
        ):
            yield self._change(steps, loss)

    def pays(self, base: Recipe, recipe: Recipe) -> bool:
        ways = {
            name: step(self.work.decoder(some.sites), self.work.tokens)
            for name, some in (("with", recipe), ("without", base))
        }
        times = take_turns(ways, self.work.stage("time channels"))
        return times["with"].beat(times["without"])

    def lower(self, change: Change) -> Change | None:
        fewer = lowered(change.steps, LOWER)
        return self._change(fewer, sum(step.loss for step in fewer)) if fewer else None

    def _keeps_that_pay(self, base: Recipe, sites: Mapping[str, Sequence[Site]]) -> dict[str, float]:
        """The largest share of the channels with which decoding is faster, for each kind with one."""
        work, timed = self.work, {}
        without, report = work.decoder(base.sites), work.stage("time channels")
        for done, (kind, some) in enumerate(sites.items()):
            decoder = work.decoder({**base.sites, **unfitted_parts(some)})
            timed[kind] = time_channels(
                without, decoder, work.tokens, lambda share, done=done: report((done + share) / len(sites))
            )
        self.notes["channel_seconds"] = {kind: asdict(payoff) for kind, payoff in timed.items()}
        return {kind: payoff.largest_keep for kind, payoff in timed.items() if payoff.largest_keep}

    def _loss(self, steps: Sequence[Step], decoder: Any, reference: Reference) -> float:
        """Nats per token of a series of steps, measured; infinite where too few tokens stay the same."""
        chosen = plan(steps)
        for candidate in chosen.values():
            decoder.set_threshold(candidate.site, candidate.threshold)
        try:
            cost = reference.measure(decoder, self.work.stage("combine"))
        finally:
            for site in chosen:
                decoder.set_threshold(site, 0.0)
        return max(cost.divergence, 0.0) if cost.agreement >= self.work.min_agreement else np.inf

    def _change(self, steps: Sequence[Step], loss: float) -> Change:
        chosen = plan(steps)
        places = {
            site: {"keep": found.keep, "saved_bytes": found.saved, "loss": found.loss}
            for site, found in chosen.items()
        }
        parts = {site: self._fitted[site].at(found) for site, found in chosen.items()}
        return Change(parts, loss, {"places": places}, steps)


def unfitted_parts(sites: Iterable[Site]) -> dict[str, Part]:
    """Parts that read all channels: they make a decoder whose inputs can be recorded."""
    return {site.name: site.part(Magnitude(weighted=False), Threshold(0.0)) for site in sites}


def fit_sites(
    sites: Sequence[Site],
    decoder: Any,
    tokens: np.ndarray,
    prefix: Sequence[int] = (),
    progress: Callable[[float], None] = lambda _: None,
    *,
    weights: str = "",
) -> dict[str, Fitted]:
    """Fit sites to the inputs that a text brings to them.

    The estimator of a kind is the one that changes the outputs least in a few of its layers, at equal bytes.

    Parameters
    ----------
    sites : sequence of Site
    decoder : Decoder
        With `unfitted_parts` of them.
    tokens : int [n]
    prefix : sequence of int
        Tokens that every text starts with. What they, or the first token, bring is left out: some of its
        values are hundreds of times as large as those at other positions.
    progress : callable
        Called with the share of the work that is done.
    weights : {"", "q8", "q4"}
        What the decoder quantizes float matrices to.
    """
    sizes, stored = decoder.channel_bytes, decoder.place_bytes
    recorded = decoder.all_inputs(np.array([*prefix, *tokens], dtype=np.int32))
    inputs = {site: values[max(len(prefix), 1) :] for site, values in recorded.items()}
    by_kind: dict[str, list[Site]] = {}
    for site in sites:
        by_kind.setdefault(site.kind, []).append(site)
    fitted: dict[str, Fitted] = {}
    for some in by_kind.values():
        estimator = _best_estimator(some[:: -(-len(some) // COMPARED_LAYERS)], inputs, weights)
        for site in some:
            more = stored[site.name] - site.nbytes(weights)
            name, table = site.name, site.table(weights)
            fitted[name] = weigh(site, table, inputs.pop(name), estimator, sizes[name], more)
            progress(len(fitted) / len(sites))
    return fitted


def weigh(
    site: Site,
    table: np.ndarray,
    inputs: np.ndarray,
    estimator: Magnitude,
    channel_bytes: float,
    more_bytes: float = 0.0,
) -> Fitted:
    """Fit an estimator to a site and measure its candidates.

    Parameters
    ----------
    site : Site
    table : float32 [inputs, outputs]
        The site's.
    inputs : float32 [n, inputs]
    estimator : Magnitude
    channel_bytes : float
        Bytes of one channel.
    more_bytes : float
        Bytes that all channels take more than the dense matrices, such as padding.
    """
    state = estimator.fit(table, inputs)
    scores = estimator.score(state, inputs).values
    rest_bytes = estimator.rest * sum(table.shape)  # in 8 bits
    outputs = float(np.mean(np.square(inputs @ table).sum(axis=1)))
    candidates = []
    for keep in KEEPS:
        threshold = Threshold.calibrated(scores, keep).threshold
        skipped = scores < threshold
        saved = float(skipped.mean()) * len(table) * channel_bytes - rest_bytes - more_bytes
        change = _change(table, np.where(skipped, inputs, 0), state) / outputs if outputs else 0.0
        kept = 1 - float(skipped.mean())
        candidates.append(Candidate(site.name, kept, saved, np.nan, threshold, change))
    part = site.part(estimator, Threshold(0.0), state)
    return Fitted(part, tuple(candidate for candidate in candidates if candidate.saved > 0))


def prices(
    fitted: Mapping[str, Fitted],
    decoder: Any,
    reference: Any,
    progress: Callable[[float], None] = lambda _: None,
) -> list[Candidate]:
    """Every candidate with the loss to expect: its change, times what one of its site's cost for its change.

    Parameters
    ----------
    fitted : mapping of str to Fitted
        By site.
    decoder : Decoder
        With all of these sites by channel, and thresholds of 0.
    reference : Reference
    progress : callable
        Called with the share of the work that is done.
    """
    found = []
    for done, some in enumerate(fitted.values(), start=1):
        if some.candidates:
            probe = min(some.candidates, key=lambda candidate: abs(candidate.keep - PROBED_KEEP))
            sensitivity = _divergence(decoder, probe, reference) / max(probe.change, 1e-12)
            found += [replace(each, loss=sensitivity * each.change) for each in some.candidates]
        progress(done / len(fitted))
    return found


def _divergence(decoder: Any, probe: Candidate, reference: Any) -> float:
    decoder.set_threshold(probe.site, probe.threshold)
    try:
        return max(reference.measure(decoder).divergence, 0.0)
    finally:
        decoder.set_threshold(probe.site, 0.0)


def _change(table: np.ndarray, skipped: np.ndarray, state: State) -> float:
    """Mean squared length of what skipped inputs [n, inputs] would have added, less what stands for it."""
    missing = skipped @ table
    if "outer" in state:
        missing -= skipped @ state["inner"].T.astype(np.float32) @ state["outer"].T.astype(np.float32)
    return float(np.mean(np.square(missing).sum(axis=1)))


def _best_estimator(sites: Iterable[Site], inputs: Mapping[str, np.ndarray], weights: str) -> Magnitude:
    """The estimator whose candidates change least where each saves `COMPARED_SAVING` of the site's bytes."""
    changes = dict.fromkeys(ESTIMATORS, 0.0)
    for site in sites:
        table, unit_bytes = site.table(weights), site.unit_bytes(weights)
        for estimator in changes:
            if estimator.rest < min(site.units, site.width):
                found = weigh(site, table, inputs[site.name], estimator, unit_bytes).candidates
                changes[estimator] += _at_saving(found, COMPARED_SAVING * unit_bytes * site.units)
            else:
                changes[estimator] = np.inf
    return min(changes, key=lambda estimator: changes[estimator])


def _at_saving(candidates: tuple[Candidate, ...], saved: float) -> float:
    """The change at a saving, between candidates; infinite where none saves as much."""
    if not candidates or candidates[-1].saved < saved:
        return np.inf
    return float(np.interp(saved, [c.saved for c in candidates], [c.change for c in candidates]))
