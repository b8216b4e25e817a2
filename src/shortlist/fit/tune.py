"""Tune a recipe to a quality budget: search on half of a text, verify on the other, lower until it holds."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, replace
from functools import partial
from time import monotonic
from typing import Any, Literal

from shortlist.checkpoints.base import Checkpoint
from shortlist.errors import UsageError
from shortlist.fit.search import Report, Search
from shortlist.fit.verify import Verifier
from shortlist.measure.paired import Z, affordable
from shortlist.measure.quality import Quality
from shortlist.model.decoder import Decoder
from shortlist.recipe import Recipe

VERIFY_TOKENS, FEWEST_TOKENS = 4096, 512  # of the half that was not tuned on
# Of the seconds that are given: when the search ends, and when the verification reads no more text. The rest
# is for what is under way then, and for the frontier.
SEARCH_SHARE, VERIFY_SHARE = 0.6, 0.85


@dataclass(frozen=True)
class Goal:
    """What a recipe must hold.

    Parameters
    ----------
    max_perplexity : float
        The share by which perplexity may rise: 0.005 is 0.5 %. The upper end of its 95 % confidence interval
        must be within it.
    min_agreement : float
        Least share of positions whose greedy token is the dense model's.
    max_seconds : float, optional
        For all of it. The search ends at 60 % of them, and what it found by then is verified on as much text
        as there is time for, 512 tokens at least; the frontier is left out where the time is over.

    Raises
    ------
    UsageError
        A value is out of range.
    """

    max_perplexity: float
    min_agreement: float = 0.0
    max_seconds: float | None = None

    def __post_init__(self) -> None:
        if not 0 < self.max_perplexity <= 1:
            raise UsageError(
                f"perplexity may rise by more than 0 % and at most 100 %, not by {self.max_perplexity:.1%}"
            )
        if not 0 <= self.min_agreement <= 1:
            raise UsageError(f"an agreement is from 0 % to 100 %, not {self.min_agreement:.1%}")
        if self.max_seconds is not None and not self.max_seconds > 0:
            raise UsageError(f"the seconds must be more than 0, not {self.max_seconds}")

    def holds(self, quality: Quality) -> bool:
        """Whether a measured recipe is within the budget."""
        found = quality.shortlisted
        upper = found.perplexity_change + Z * found.perplexity_change_error
        return upper <= self.max_perplexity and found.agreement >= self.min_agreement


@dataclass(frozen=True)
class Tuned:
    """What tuning came to.

    Attributes
    ----------
    recipe : Recipe
    verified : bool
        Whether it was measured on text that it was not tuned on.
    interrupted, out_of_time : bool
        Whether Ctrl-C, or the seconds that were given, ended the search early.
    """

    recipe: Recipe
    verified: bool
    interrupted: bool
    out_of_time: bool = False

    @property
    def found(self) -> bool:
        """Whether anything is shortlisted."""
        return bool(self.recipe.shortlisted)


class _OutOfTimeError(Exception):
    """The seconds for the search are over."""


def tune(
    checkpoint: Checkpoint,
    tokenizer: Any,
    name: str,
    text: str,
    goal: Goal,
    *,
    weights: Literal["q8", "q4"] | None = None,
    threads: int | None = None,
    report: Report = lambda *_: None,
) -> Tuned:
    """Find the fastest recipe that stays within a quality budget.

    The first half of the text is tuned on, the second, which the search never saw, decides.

    Parameters
    ----------
    checkpoint : Checkpoint
        Open.
    tokenizer : Tokenizer
    name : str
        The model's, for people.
    text : str
    goal : Goal
    weights, threads
        As for `shortlist.load`.
    report : callable, optional
        Called with the stage of the work and the share of it that is done. Ctrl-C (`KeyboardInterrupt`) ends
        the search, and the best recipe so far is verified; a second one leaves it unverified.

    Raises
    ------
    UsageError
        The text is too short.
    """
    start = monotonic()
    make = partial(Decoder, checkpoint, weights=weights, threads=threads)
    middle = len(text) // 2
    held_out = tokenizer.encode(text[middle:], add_special=False)
    tuned_on = tokenizer.encode(text[:middle], add_special=False)
    if min(len(tuned_on), len(held_out)) < FEWEST_TOKENS:
        raise UsageError(
            f"the text has {len(tuned_on) + len(held_out)} tokens and {2 * FEWEST_TOKENS} are needed, "
            "half to tune on and half to verify on: give a longer one"
        )

    def in_time(stage: str, share: float) -> None:
        report(stage, share)
        if goal.max_seconds and monotonic() - start > SEARCH_SHARE * goal.max_seconds:
            raise _OutOfTimeError

    budget = affordable(math.log1p(goal.max_perplexity), min(len(held_out), VERIFY_TOKENS))
    search = Search(
        checkpoint,
        make,
        tokenizer,
        name,
        text[:middle],
        weights=weights or "",
        limit=budget,
        min_agreement=goal.min_agreement,
        report=in_time,
    )
    interrupted = out_of_time = False
    try:
        search.run()
    except _OutOfTimeError:
        out_of_time = True
    except KeyboardInterrupt:
        interrupted = True
    verifier = Verifier(
        search.dense, make, tokenizer, name, held_out[:VERIFY_TOKENS], lambda share: report("verify", share)
    )
    quality = None
    limit = goal.max_seconds or math.inf
    deadline = start + VERIFY_SHARE * limit
    try:
        while True:
            quality = verifier.measure(search.rungs[-1].recipe, deadline)
            if goal.holds(quality):  # as the lowest rung does, which is all dense
                break
            if monotonic() > deadline:
                del search.rungs[1:]
            else:
                search.lower()
    except KeyboardInterrupt:
        interrupted, quality = True, None
    recipe = search.rungs[-1].recipe
    measured = dict(recipe.measured)
    if quality is not None:
        measured["whole"] = quality.to_dict()
    if quality is not None and not interrupted and monotonic() <= start + limit:
        try:
            frontier = verifier.frontier([rung.recipe for rung in search.rungs], start + limit)
            if frontier:
                measured["frontier"] = frontier
                measured["whole"]["seconds_per_token"] = {
                    "dense": 1 / frontier[0]["tokens_per_s"],
                    "recipe": 1 / frontier[-1]["tokens_per_s"],
                }
        except KeyboardInterrupt:
            interrupted = True
    measured["tuned"] = {
        **asdict(goal),
        "tuned_on_tokens": len(tuned_on),
        "verified": quality is not None,
        "interrupted": interrupted,
        "out_of_time": out_of_time,
        "seconds": monotonic() - start,
    }
    return Tuned(replace(recipe, measured=measured), quality is not None, interrupted, out_of_time)
