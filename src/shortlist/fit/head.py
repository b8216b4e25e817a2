"""Fit a head's shortlist: collect hidden states, fit, choose rank and selector from data, measure."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from shortlist.engine.choose_head import NARROWEST
from shortlist.errors import UsageError
from shortlist.estimators import BitPlanes, LowRank
from shortlist.fit.choose import weigh_ranks
from shortlist.fit.own_text import write_passages
from shortlist.fit.tuner import Change, Report, Tuner
from shortlist.measure.interleaved import take_turns
from shortlist.measure.quality import compare
from shortlist.measure.speed import token_seconds
from shortlist.measure.teacher_forced import windows
from shortlist.recipe import Recipe
from shortlist.selectors import Certified
from shortlist.sites.base import Part, Way
from shortlist.sites.head import Head, exact_head

# Positions. More to fit to means fewer rows to read later; reading a text is many times faster than writing.
FIT_TEXT, FIT_OWN = 4096, 1792
CHOOSE, MEASURE, TIME = 512, 256, 32
FEWEST = 1024  # tokens of a calibration text
RANKS = (NARROWEST, 128)
EIGHT_BIT = 32  # leading dimensions that need more than 4 bits
PREFER_SAME_TEXT = 1.1
"""The dense or the exact head is preferred where a token takes up to this many times as long with it."""
PROMPT = "The lamp in the tower was lit every evening, and every morning somebody climbed up to put it out."


def calibrate_head(
    decoder: Any, tokenizer: Any, name: str, *, text: str | None = None, report: Report = lambda *_: None
) -> Recipe:
    """Fit the shortlist of a model's head and measure it on positions that it was not fitted to.

    Its `head` is estimated, unless the dense or exact head takes at most `PREFER_SAME_TEXT` times as long.

    Parameters
    ----------
    decoder : Decoder
    tokenizer : Tokenizer
    name : str
        The model's, for people.
    text : str, optional
        Calibration text. Left out, the model writes its own.
    report : callable, optional
        Called with the stage of the work and the share of it that is done.

    Raises
    ------
    UsageError
        The text is too short, or the head too narrow to be estimated through fewer dimensions.
    """
    rows, cap = decoder.head_rows, decoder.logit_cap
    ranks = [rank for rank in RANKS if rank < rows.cols]
    if not ranks:
        raise UsageError(
            f"the head of {name} is only {rows.cols} wide, too narrow to estimate: use --head dense"
        )
    if text is None:
        collected = write_passages(
            decoder, tokenizer, FIT_OWN + CHOOSE + MEASURE, lambda share: report("write", share)
        )
    else:
        collected = _read(decoder, tokenizer, text, lambda share: report("read", share))
    hidden, targets = collected
    fit, choose, measure = np.split(hidden, [-CHOOSE - MEASURE, -MEASURE])

    widest = LowRank(rank=ranks[-1], eight_bit=EIGHT_BIT)
    state = widest.fit(rows, fit, progress=lambda share: report("fit", share))
    options = weigh_ranks(rows, widest, state, ranks, choose, lambda share: report("choose", share))
    best = min(options, key=lambda option: option.cost)

    state = widest.truncate(state, best.rank)
    estimator = replace(widest, rank=best.rank)
    dense, estimated = Head(rows, cap), Head(rows, cap, estimator, best.selector, state)
    quality = compare(
        _one_by_one(measure, targets[-MEASURE:], lambda share: report("measure", share)),
        dense,
        estimated,
        decoder.layer_bytes,
    )
    heads: dict[str, Any] = {"dense": dense, "estimated": estimated}
    if rows.format == "q8":
        heads["exact"] = exact_head(rows, cap)
    seconds = token_seconds(
        decoder, heads, measure[:TIME], tokenizer.encode(PROMPT), lambda share: report("time", share)
    )
    part = Part(estimator, best.selector, rows.rows, rows.cols, state)
    measured = {"head": {**quality.to_dict(), "seconds_per_token": seconds}}
    way = best_head(seconds)
    if way == "estimated":
        return Recipe(name, decoder.fingerprint, {"head": part}, measured)
    chosen = exact_part(rows) if way == "exact" else None
    return Recipe(name, decoder.fingerprint, {"head": chosen}, measured, {"head": part})


def exact_part(rows: Any) -> Part:
    """The part of the exact head; what it keeps of the rows lies with them."""
    return Part(BitPlanes(), Certified(), rows.rows, rows.cols, {})


class HeadTuner(Tuner):
    """Fits the head's estimate, and times it beside the dense and the exact head."""

    def changes(self, base: Recipe, limit: float) -> Iterator[Change]:
        work, rows = self.work, self.work.dense.head_rows
        exact = Change({"head": exact_part(rows)}, 0.0)
        if rows.cols <= min(RANKS):  # too narrow to estimate
            if rows.format == "q8" and self._exact_is_faster():
                yield exact
            return
        long_enough = len(work.tokens) >= FEWEST + CHOOSE + MEASURE
        text = work.text if long_enough else None
        fitted = calibrate_head(work.dense, work.tokenizer, work.name, text=text, report=work.report)
        figures = fitted.measured["head"]
        seconds = figures["seconds_per_token"]
        if seconds.get("exact", np.inf) < seconds["dense"]:
            yield exact
        if seconds["estimated"] == min(seconds.values()):
            estimate = fitted.alternatives.get("head") or fitted.shortlisted["head"]
            loss = max(float(np.log1p(figures["shortlisted"]["perplexity_change"])), 0.0)
            yield Change({"head": estimate}, loss, fitted.measured)

    def _exact_is_faster(self) -> bool:
        dense, rows = self.work.dense, self.work.dense.head_rows
        state = dense.forward(self.work.tokens[:1], dense.new_cache(1))[0]
        heads = {"dense": Head(rows), "exact": exact_head(rows)}
        times = take_turns({name: lambda head=head: head.argmax(state) for name, head in heads.items()})
        return times["exact"].beat(times["dense"])


def best_head(seconds: Mapping[str, float]) -> Way:
    """The head to decode with, by seconds of a token: estimated where that is worth a text that may differ.

    Without 8-bit rows there is no exact head to compare with.
    """
    ways: tuple[Way, ...] = ("dense", "exact")
    same_text: Way = min((way for way in ways if way in seconds), key=lambda way: seconds[way])
    return "estimated" if PREFER_SAME_TEXT * seconds["estimated"] < seconds[same_text] else same_text


def _read(
    decoder: Any, tokenizer: Any, text: str, progress: Callable[[float], None]
) -> tuple[np.ndarray, np.ndarray]:
    """Hidden states [positions, width] of a text, and the token after each [positions]."""
    tokens = tokenizer.encode(text, add_special=False)[: FIT_TEXT + CHOOSE + MEASURE]
    if len(tokens) < FEWEST + CHOOSE + MEASURE:
        raise UsageError(
            f"the calibration text has {len(tokens)} tokens and {FEWEST + CHOOSE + MEASURE} are needed: "
            "give a longer one, or none to let the model write its own"
        )
    parts = list(windows(decoder, tokens, tokenizer.encode(""), progress))
    hidden, targets = (np.concatenate(part) for part in zip(*parts, strict=True))
    return hidden, targets


def _one_by_one(
    hidden: np.ndarray, targets: np.ndarray, progress: Callable[[float], None]
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    for i in range(len(hidden)):
        yield hidden[i : i + 1], targets[i : i + 1]
        progress((i + 1) / len(hidden))
