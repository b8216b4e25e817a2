"""Tune the neurons of a model's layers: all of them in one way, where that is faster."""

from __future__ import annotations

from collections.abc import Iterator

from shortlist.fit.payoff import step
from shortlist.fit.tuner import SITE_TOKENS, Change, Tuner
from shortlist.measure.interleaved import take_turns
from shortlist.recipe import Recipe
from shortlist.sites.neurons import neuron_parts, neuron_ways


class NeuronTuner(Tuner):
    """Leaves out neurons at zero, known exactly or estimated."""

    def changes(self, base: Recipe, limit: float) -> Iterator[Change]:
        work = self.work
        ways = {way: neuron_parts(work.checkpoint, way, {}) for way in neuron_ways(work.checkpoint)}
        if not ways:
            return
        reference = work.reference(SITE_TOKENS, "neurons")
        decoders = {"dense": work.dense, **{way: work.decoder(parts) for way, parts in ways.items()}}
        times = take_turns({way: step(decoder, work.tokens) for way, decoder in decoders.items()})
        for way in sorted(ways, key=lambda way: -times[way].typical):  # the fastest comes last
            loss = max(reference.measure(decoders[way]).divergence, 0.0)
            if times[way].beat(times["dense"]) and loss <= limit:
                limit -= loss
                yield Change(ways[way], loss)
