"""Sums up a report in words: speed, bytes, and whether the text is the same."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

SAME_SPEED = 0.03
"""Speeds that differ by less than this share count as equal: two runs of one program differ as much."""

LEAST_SAVED = 0.005
"""Saved shares of the bytes below this count as no saving."""

NORMAL_95 = 1.96
"""Half width of a 95 % interval, in standard errors."""


class Verdict(NamedTuple):
    """A headline of one sentence, and sentences with the reasons."""

    headline: str
    sentences: list[str]


def verdict(figures: Mapping[str, Any]) -> Verdict:
    """Compare the report's own way to decode with dense.

    Parameters
    ----------
    figures
        The result of `measure`.
    """
    points = {point["name"]: point for point in figures["speed"]["points"]}
    dense = points["dense"]
    name = figures["strip"]["head"]
    if name == "dense":
        return Verdict(
            "There is nothing to compare: this model is read whole for every token.",
            [
                f"Dense writes {speed(dense)} tokens a second and reads "
                f"{megabytes(dense['bytes_per_token'])} of weights for each.",
                *_peer(figures["speed"]["peer"], "Dense", dense),
                "To try a shortlist, run shortlist fit MODEL and then write this report again.",
            ],
        )
    own, title = points[name], called(name)
    return Verdict(
        _headline(own, dense),
        [
            _speed(title, own, dense),
            _bytes(own, dense),
            _tokens(name, own),
            _perplexity(own),
            *_peer(figures["speed"]["peer"], title, own),
        ],
    )


def called(name: str) -> str:
    """The name of a way to decode, as the subject of a sentence."""
    return "The recipe" if name == "recipe" else f"The {name} head"


def megabytes(count: float) -> str:
    """Format bytes in decimal units."""
    return f"{count / 1e6:.1f} MB"


def speed(point: Mapping[str, Any]) -> str:
    """Format tokens per second with three digits."""
    count = point["tokens_per_s"]
    return f"{count:,.0f}" if count >= 100 else f"{count:.1f}" if count >= 10 else f"{count:.2f}"


def interval(point: Mapping[str, Any]) -> str:
    """Format the change of perplexity with its 95 % interval."""
    error = NORMAL_95 * point["perplexity_change_error"]
    return f"{100 * point['perplexity_change']:+.2f} % ± {100 * error:.2f} %".replace("-", "−")


def differing(point: Mapping[str, Any]) -> int:
    """Number of positions where another token than dense's was chosen."""
    return round(point["positions"] * (1 - point["agreement"]))


def percent(share: float) -> str:
    """Format as whole per cent; at least 1 where the share is not 0."""
    return f"{max(1, round(100 * share))} %" if share > 0 else "0 %"


def _headline(own: Mapping[str, Any], dense: Mapping[str, Any]) -> str:
    ratio = own["tokens_per_s"] / dense["tokens_per_s"]
    saved = _saved(own, dense)
    read = f"reads {percent(saved)} less" if saved else "reads no less"
    if ratio <= 1 - SAME_SPEED:
        but = "although" if saved else "and"
        return f"{percent(1 - ratio)} slower than reading everything here, {but} it {read}: use dense."
    fast = f"{percent(ratio - 1)} faster than" if ratio >= 1 + SAME_SPEED else "About as fast as"
    differ = differing(own)
    text = (
        f"another token at {differ} of {own['positions']}"
        if differ
        else f"the same token at all {own['positions']}"
    )
    return f"{fast} reading everything; it {read} and chose {text} positions."


def _speed(title: str, own: Mapping[str, Any], dense: Mapping[str, Any]) -> str:
    ratio = own["tokens_per_s"] / dense["tokens_per_s"]
    said = f"{title} writes {speed(own)} tokens a second, dense {speed(dense)}"
    if ratio >= 1 + SAME_SPEED:
        return f"{said}: it is {ratio:.2f} times as fast."
    if ratio <= 1 - SAME_SPEED:
        return f"{said}: it is slower."
    return f"{said}: two runs of one program may differ by as much."


def _bytes(own: Mapping[str, Any], dense: Mapping[str, Any]) -> str:
    read = f"For each token it reads {megabytes(own['bytes_per_token'])} of weights, dense "
    read += megabytes(dense["bytes_per_token"])
    saved = _saved(own, dense)
    return f"{read}: {percent(saved)} less." if saved else f"{read}: nothing is saved."


def _saved(own: Mapping[str, Any], dense: Mapping[str, Any]) -> float:
    """Share of the bytes that is saved; 0 where it is too small to mention."""
    saved = 1 - own["bytes_per_token"] / dense["bytes_per_token"]
    return saved if saved >= LEAST_SAVED else 0.0


def _tokens(name: str, own: Mapping[str, Any]) -> str:
    differ, positions = differing(own), own["positions"]
    said = "Taking the likeliest token each time, it chose"
    if differ:
        return f"{said} another one than dense at {differ} of {positions} positions."
    proof = "That is provably always so." if name == "exact" else "On other text it may differ."
    return f"{said} the same one as dense at all {positions} positions. {proof}"


def _perplexity(own: Mapping[str, Any]) -> str:
    change, error = own["perplexity_change"], NORMAL_95 * own["perplexity_change_error"]
    if change == 0 and error == 0:
        return "Perplexity is the same."
    if abs(change) <= error:
        return f"Perplexity changes by {interval(own)}, which may be chance."
    how = "worse" if change > 0 else "better"
    return f"Perplexity changes by {interval(own)}: the text is predicted {how}."


def _peer(peer: Mapping[str, Any], title: str, own: Mapping[str, Any]) -> list[str]:
    if "error" in peer:
        return []
    ratio = own["tokens_per_s"] / peer["tokens_per_s"]
    return [
        f"{peer['name']} writes {speed(peer)} tokens a second from the same file: "
        f"{title[0].lower() + title[1:]} is {ratio:.2f} times as fast."
    ]


TERMS = {
    "token": "a piece of text, a word or a part of one. A model writes one after another.",
    "weights": "the numbers that a model consists of. A model writes about as fast as they can be read from "
    "memory, so fewer bytes per token mean more tokens a second.",
    "head": "the last part of the model. It has a row of weights for every token of the vocabulary, and "
    "gives each token its score.",
    "dense": "all weights are read for every token: the reference of this report.",
    "exact": "the exact head reads half of every row, and the rest only of the rows that can still win. Its "
    "choice is provably that of dense.",
    "estimated": "the estimated head estimates all scores from few bytes, and reads the rows that can win by "
    "that estimate. Its choice may differ from dense's.",
    "recipe": "what a recipe says is shortlisted: the head, and parts of the layers.",
    "perplexity": "how surprised a model is by a given text: lower is better. Changes are relative to dense; "
    "± is a 95 % interval.",
    "recall": "the share of the truly needed rows or neurons that an estimate finds.",
}
"""Glossary of a report; a term comes after those that explain it."""


def terms(names: Sequence[str]) -> dict[str, str]:
    """The terms that a report with these ways to decode uses."""
    ways = {"dense", "exact", "estimated", "recipe"}
    return {word: meaning for word, meaning in TERMS.items() if word not in ways or word in names}
