"""Verify recipes on text that they were not tuned on, as they decode: whole, with their own head."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import cycle
from time import monotonic
from typing import Any

import numpy as np

from shortlist.engine.choose_head import choose_head
from shortlist.fit.payoff import CONTEXT, step
from shortlist.fit.tuner import Work
from shortlist.measure.interleaved import take_turns
from shortlist.measure.on_text import Pair, compare_on_text
from shortlist.measure.quality import Quality
from shortlist.recipe import Recipe, describe
from shortlist.sites.head import Head

FRONTIER_TOKENS = 1024  # that each recipe on the way is measured on


class Verifier:
    """Measures recipes against the dense model.

    Parameters
    ----------
    work : Work
    tokens : sequence of int
        To measure on.
    report : callable
        Called with the share of the work that is done.
    """

    def __init__(self, work: Work, tokens: Sequence[int], report: Callable[[float], None]):
        self._work, self._tokens, self._report = work, tokens, report
        self._dense = Pair(work.dense, Head(work.dense.head_rows, work.dense.logit_cap))

    def measure(self, recipe: Recipe, deadline: float) -> Quality:
        """Compare a recipe with the dense model.

        Parameters
        ----------
        recipe
        deadline
            The `monotonic` time after which no more text is read; the first 512 tokens always are.
        """
        return self._compare(self._pair(recipe), self._tokens, deadline)

    def frontier(self, recipes: Sequence[Recipe], deadline: float) -> list[dict[str, Any]]:
        """Quality and speed of each recipe on the beginning of the text, as `shortlist report` draws them.

        None of them where the `monotonic` time passes `deadline` on the way.
        """
        pairs = {describe(recipe.sites): self._pair(recipe) for recipe in recipes}
        tokens = np.array(self._tokens, dtype=np.int32)
        times = take_turns({name: _token(pair, tokens) for name, pair in pairs.items()}, self._report)
        points = []
        for name, pair in pairs.items():
            if monotonic() > deadline:
                return []
            found = self._compare(pair, self._tokens[:FRONTIER_TOKENS], deadline).shortlisted
            points.append(
                {
                    "name": name,
                    "tokens_per_s": 1 / times[name].typical,
                    "perplexity_change": found.perplexity_change,
                    "perplexity_change_error": found.perplexity_change_error,
                    "agreement": found.agreement,
                    "bytes_per_token": found.bytes_per_token,
                }
            )
        return points

    def _compare(self, pair: Pair, tokens: Sequence[int], deadline: float) -> Quality:
        return compare_on_text(
            tokens,
            self._work.prefix,
            self._dense,
            pair,
            self._report,
            enough=lambda: monotonic() > deadline,
        )

    def _pair(self, recipe: Recipe) -> Pair:
        decoder = self._work.decoder(recipe.sites)
        return Pair(decoder, choose_head("auto", decoder, recipe.model, recipe=recipe).head)


def _token(pair: Pair, tokens: np.ndarray) -> Callable[[], None]:
    """A call that decodes one greedy token: a step of the decoder, then the head."""
    one_step = step(pair.decoder, tokens)
    # Each time another state: how much a head reads depends on it.
    states = cycle(pair.decoder.forward(tokens[:CONTEXT], pair.decoder.new_cache(CONTEXT)))

    def once() -> None:
        one_step()
        pair.head.argmax(next(states))

    return once
