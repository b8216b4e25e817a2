"""Tune a recipe to a quality budget: search on half of a text, verify on the other, lower until it holds."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, replace
from functools import partial
from time import monotonic
from typing import Any, Literal

from shortlist.checkpoints.base import Checkpoint
from shortlist.errors import UsageError
from shortlist.fit.search import Search
from shortlist.fit.tuner import Report, Work
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


@dataclass
class _Ended:
    """Ends work early, by Ctrl-C or when the time is over, and remembers which."""

    interrupted: bool = False
    out_of_time: bool = False

    def __enter__(self) -> None: ...

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> bool:
        self.interrupted |= kind is KeyboardInterrupt
        self.out_of_time |= kind is _OutOfTimeError
        return kind in (KeyboardInterrupt, _OutOfTimeError)


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
    middle = len(text) // 2
    held_out = tokenizer.encode(text[middle:], add_special=False)
    tuned_on = tokenizer.encode(text[:middle], add_special=False)
    if min(len(tuned_on), len(held_out)) < FEWEST_TOKENS:
        raise UsageError(
            f"the text has {len(tuned_on) + len(held_out)} tokens and {2 * FEWEST_TOKENS} are needed, "
            "half to tune on and half to verify on: give a longer one"
        )
    limit, held_out = goal.max_seconds or math.inf, held_out[:VERIFY_TOKENS]

    def in_time(stage: str, share: float) -> None:
        report(stage, share)
        if monotonic() - start > SEARCH_SHARE * limit:
            raise _OutOfTimeError

    work = Work(
        checkpoint,
        partial(Decoder, checkpoint, weights=weights, threads=threads),
        tokenizer,
        name,
        text[:middle],
        weights=weights or "",
        min_agreement=goal.min_agreement,
        report=in_time,
    )
    search = Search(work, affordable(math.log1p(goal.max_perplexity), len(held_out)))
    verifier = Verifier(work, held_out, lambda share: report("verify", share))
    ended, quality = _Ended(), None
    with ended:
        search.run()
    with ended:
        quality = _verified(search, verifier, goal, start + VERIFY_SHARE * limit)
    measured = dict(search.recipe.measured)
    if quality is not None:
        measured["whole"] = quality.to_dict()
        with ended:
            if not ended.interrupted and monotonic() <= start + limit:
                measured |= _frontier(search, verifier, measured["whole"], start + limit)
    measured["tuned"] = {
        **asdict(goal),
        "tuned_on_tokens": len(tuned_on),
        "verified": quality is not None,
        "interrupted": ended.interrupted,
        "out_of_time": ended.out_of_time,
        "seconds": monotonic() - start,
    }
    recipe = replace(search.recipe, measured=measured)
    return Tuned(recipe, quality is not None, ended.interrupted, ended.out_of_time)


def _verified(search: Search, verifier: Verifier, goal: Goal, deadline: float) -> Quality:
    """Lower the recipe until it holds, as the lowest rung does, which is all dense."""
    while True:
        quality = verifier.measure(search.recipe, deadline)
        if goal.holds(quality):
            return quality
        if monotonic() > deadline:
            del search.rungs[1:]
        else:
            search.lower()


def _frontier(search: Search, verifier: Verifier, whole: dict[str, Any], end: float) -> dict[str, Any]:
    """What the recipes on the way measured, and the speed of the last one; nothing where the time is over."""
    points = verifier.frontier([rung.recipe for rung in search.rungs], end)
    if not points:
        return {}
    speeds = {way: 1 / points[i]["tokens_per_s"] for way, i in (("dense", 0), ("recipe", -1))}
    return {"frontier": points, "whole": {**whole, "seconds_per_token": speeds}}
