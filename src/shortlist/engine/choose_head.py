"""Which head a model decodes with."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from shortlist import recipe as recipes
from shortlist.errors import RecipeError, UsageError
from shortlist.model.decoder import Decoder
from shortlist.recipe import Recipe
from shortlist.sites.base import Part
from shortlist.sites.head import Head, exact_head

HeadName = Literal["auto", "dense", "estimated", "exact"]

# The exact head reads half of the head's bytes in a row, then single rows, which cost three times as much per
# byte, so whether it is faster depends on how many rows its bound leaves. Of SmolLM2-135M, whose head is 31 %
# of the bytes of a token, these are 14 %, and it decodes at 0.92 to 1.13 times the dense speed. Of
# Gemma-3-270M, whose head is 72 %, they are 0.7 %, and it decodes at 1.3 to 1.5 times the dense speed. Where
# the head is less than half of a token's bytes there is little to gain and something to lose.
EXACT_SHARE = 0.5

# What the estimated head reads for a greedy token, as a share of the head's bytes: 0.25 for SmolLM2-135M and
# 0.22 for Gemma-3-270M on WikiText-2, with recipes fitted to the models' own text.
ESTIMATED_BYTES = 0.24

NARROWEST = 64
"""A head of so few columns is not estimated: this is the smallest rank."""


@dataclass(frozen=True)
class Choice:
    """A head, the recipe that was used or consulted for it, and the reason where the choice was automatic."""

    head: Head
    recipe: Recipe | None = None
    reason: str = ""


def choose_head(name: HeadName, decoder: Decoder, model: str, *, recipe: Recipe | None = None) -> Choice:
    """The head that was asked for; `auto` decides, at once and the same way every time.

    `auto` writes the dense head's text unless a recipe that the user made says otherwise. In this order:

    1. A recipe was named that is about the head: what it says.
    2. `shortlist fit` left a recipe in the cache folder: what it says.
       With either, dense if it says exact and the head is not stored in 8 bits, which the exact one needs.
    3. The head is not stored in 8 bits: dense.
    4. The head is at least `EXACT_SHARE` of the bytes that a dense token reads: exact.
    5. Dense.

    Parameters
    ----------
    name
    decoder
    model
        Its name, for messages.
    recipe
        The one that was named. None: that in the cache folder, if there is one.

    Raises
    ------
    UsageError
        The exact head is impossible, the estimated one has no recipe, or a recipe was named that could do
        nothing.
    RecipeError
        The recipe cannot be used.
    """
    if recipe is not None and name in ("dense", "exact") and not recipe.layers:
        raise UsageError(f"this recipe is for the estimated head: leave out --recipe, or --head {name}")
    if name == "auto":
        return _choose(decoder, recipe)
    if name == "estimated":
        if recipe is None or _estimate(recipe) is None:
            recipe = stored_recipe(decoder.fingerprint)
        part = recipe and _estimate(recipe)
        if recipe is None or part is None:
            raise _not_fitted(decoder, model)
        return Choice(_as_recipe_says(recipe, part, decoder), recipe)
    return Choice(_head(name, decoder))


def _choose(decoder: Decoder, named: Recipe | None) -> Choice:
    """What `auto` takes."""
    recipe = named if named and "head" in named.sites else stored_recipe(decoder.fingerprint)
    in_8_bits = decoder.head_rows.format == "q8"
    if recipe is not None and "head" in recipe.sites:
        part = recipe.sites["head"]
        if part and part.estimator.name == "bit_planes" and not in_8_bits:
            return Choice(_head("dense", decoder), recipe, f"its recipe says exact, but {_NOT_8_BITS}")
        head = _as_recipe_says(recipe, part, decoder) if part else _head("dense", decoder)
        return Choice(head, recipe, "its recipe says so")
    if not in_8_bits:
        return Choice(_head("dense", decoder), reason=_NOT_8_BITS)
    share = decoder.head_rows.nbytes / (decoder.layer_bytes + decoder.head_rows.nbytes)
    way: Literal["dense", "exact"] = "exact" if share >= EXACT_SHARE else "dense"
    return Choice(_head(way, decoder), reason=f"the head is {share:.0%} of the bytes of a dense token")


_NOT_8_BITS = "the head is not stored in 8 bits, which the exact one needs"


def stored_recipe(fingerprint: str, folder: str | Path | None = None) -> Recipe | None:
    """The recipe that was named for a checkpoint, else the one in the cache folder, if there is one.

    Raises
    ------
    RecipeError
        There is none in `folder`, or it cannot be used.
    """
    default = recipes.default_folder(fingerprint)
    if folder is None and not (default / recipes.FILE_NAME).exists():
        return None
    return recipes.load(Path(folder or default), fingerprint)


def gain_of_fitting(decoder: Decoder, head: Head) -> float:
    """How many times as fast a token should be with a fitted head, by bytes; 1 where none can be fitted."""
    rows = decoder.head_rows
    if not head.exact or rows.cols <= NARROWEST:
        return 1.0
    now = head.estimate_bytes or rows.nbytes
    return (decoder.layer_bytes + now) / (decoder.layer_bytes + ESTIMATED_BYTES * rows.nbytes)


def how_often_it_differs(measured: Mapping[str, Any]) -> str:
    """One sentence about the text of an estimated head beside the dense one's, as its recipe measured."""
    figures = measured.get("whole") or measured.get("head") or {}
    try:
        share, tokens = 1 - float(figures["shortlisted"]["agreement"]), int(figures["tokens"])
    except (KeyError, TypeError, ValueError):
        return "its text may differ from the dense head's; how often was not measured: shortlist eval does"
    return (
        f"its text may differ from the dense head's: when it was measured, {share:.2%} of {tokens} tokens did"
    )


def _head(way: Literal["dense", "exact"], decoder: Decoder) -> Head:
    return {"dense": Head, "exact": exact_head}[way](decoder.head_rows, decoder.logit_cap)


def _not_fitted(decoder: Decoder, model: str) -> UsageError:
    if decoder.head_rows.cols <= NARROWEST:
        return UsageError(
            f"the head of {model} is only {decoder.head_rows.cols} wide, too narrow to estimate: "
            "use --head dense"
        )
    return UsageError(
        f"the estimated head of {model} is not fitted yet: run shortlist fit {model} first, "
        "which takes about a minute, or leave out --head"
    )


def _estimate(recipe: Recipe) -> Part | None:
    """The part that estimates the head: what the recipe says, or an alternative."""
    parts = (recipe.sites.get("head"), recipe.alternatives.get("head"))
    return next((part for part in parts if part and part.way == "estimated"), None)


def _as_recipe_says(recipe: Recipe, part: Part, decoder: Decoder) -> Head:
    try:
        return Head(decoder.head_rows, decoder.logit_cap, part.estimator, part.selector, part.state)
    except UsageError as error:
        raise RecipeError(f"the recipe of {recipe.model} cannot be used: {error}") from None
