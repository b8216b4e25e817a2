"""Which head a model decodes with, and the recipe that the estimated one needs."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from shortlist import recipe as recipes
from shortlist.calibrate import head_recipe
from shortlist.calibrate.head import RANKS
from shortlist.errors import RecipeError, UsageError
from shortlist.estimators.low_rank import LowRank
from shortlist.models.decoder import Decoder
from shortlist.models.heads import DenseHead, EstimatedHead, ExactHead
from shortlist.models.tokenizer import Tokenizer
from shortlist.recipe import Recipe
from shortlist.selectors import Confidence

HeadName = Literal["auto", "dense", "estimated", "exact"]

# The exact head is preferred where a token takes up to this much longer.
PREFER_EXACT = 1.10

# Decoding is bound by bytes, so bytes stand for time until it is measured: the share of the rows that the
# exact head reads in full, and the share of the head's bytes that the estimated one reads for a greedy token.
# On WikiText-2, with recipes fitted to the models' own text, that is 0.25 for SmolLM2-135M and 0.22 for
# Gemma-3-270M.
EXACT_ROWS = 0.1
ESTIMATED_BYTES = 0.24


@dataclass(frozen=True)
class Choice:
    """A head, the recipe that was used or consulted for it, and the reason where the choice was automatic."""

    head: DenseHead | EstimatedHead | ExactHead
    recipe: Recipe | None = None
    reason: str = ""


def choose_head(
    name: HeadName,
    decoder: Decoder,
    tokenizer: Tokenizer,
    model: str,
    *,
    recipe: Recipe | None = None,
    progress: bool = False,
) -> Choice:
    """The head that was asked for; `auto` decides.

    `auto` prefers the exact head, whose output needs no trust, while it costs little. In this order:

    1. A recipe was named and says which: that one.
    2. There is no recipe, and the head is too narrow to be estimated through fewer dimensions: exact if it is
       stored in 8 bits, which the exact head needs, else dense.
    3. The head is not stored in 8 bits: estimated.
    4. A token takes at most `PREFER_EXACT` times as long with the exact head as with the estimated: exact.
       A recipe knows, as both are timed where it is fitted. Where there is none yet, the bytes that each
       would read are compared first, so that none is fitted where it would surely be left aside.
    5. Estimated.

    Parameters
    ----------
    name
    decoder, tokenizer
    model
        Its name, for the recipe.
    recipe
        The one that was named; None uses that in the cache folder, fitted when it is needed and missing.
    progress
        Show how far fitting is, if standard error is a terminal.

    Raises
    ------
    UsageError
        The exact head was asked for and is impossible, or a recipe was named that could do nothing then.
    RecipeError
        The recipe cannot be used.
    """
    if recipe is not None and name in ("dense", "exact") and not (recipe.layer_parts or recipe.ffn):
        raise UsageError(f"this recipe is for the estimated head: leave out --recipe, or --head {name}")
    reason = ""
    if name == "auto" and recipe is not None and recipe.head:
        name, reason = recipe.head, "its recipe says so"
    elif recipe is not None and "head" not in recipe.parts:
        recipe = None  # it is about the layers alone
    rows = decoder.head_rows
    if name == "dense":
        return Choice(DenseHead(rows, decoder.logit_cap), reason=reason)
    if name == "exact":
        return Choice(ExactHead(rows, decoder.logit_cap), reason=reason)
    if name == "estimated":
        stored = recipe or head_recipe(decoder, tokenizer, model, progress=progress)
        return Choice(_estimated_head(stored, decoder), stored, reason)
    return _choose(decoder, tokenizer, model, recipe or stored_recipe(decoder.fingerprint), progress)


def _choose(
    decoder: Decoder, tokenizer: Tokenizer, model: str, stored: Recipe | None, progress: bool
) -> Choice:
    """Steps 2 to 5 of `auto`, with the recipe that there is."""
    rows = decoder.head_rows
    exact = ExactHead(rows, decoder.logit_cap) if rows.format == "q8" else None
    if stored is None:
        if rows.cols <= min(RANKS):
            reason = f"rows of {rows.cols} weights are too narrow to estimate"
            return Choice(exact or DenseHead(rows, decoder.logit_cap), reason=reason)
        if exact and (ratio := _assumed_ratio(decoder, exact)) <= PREFER_EXACT:
            return Choice(exact, reason=f"it would read {ratio:.2f} times the bytes of the estimated one")
        stored = head_recipe(decoder, tokenizer, model, progress=progress)
    if exact is None:
        return Choice(_estimated_head(stored, decoder), stored)
    ratio = _measured_ratio(stored)
    reason = f"a token of the exact head took {ratio:.2f} times that of the estimated one"
    if ratio == float("inf"):
        reason = "its recipe does not know how long a token takes with the exact one"
    return Choice(exact if ratio <= PREFER_EXACT else _estimated_head(stored, decoder), stored, reason)


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


def _assumed_ratio(decoder: Decoder, exact: ExactHead) -> float:
    """Bytes of a token with the exact head over those with the estimated one, before there is a recipe."""
    exact_bytes = decoder.layer_bytes + exact.read(int(EXACT_ROWS * decoder.head_rows.rows)).bytes
    return exact_bytes / (decoder.layer_bytes + ESTIMATED_BYTES * decoder.head_rows.nbytes)


def _measured_ratio(recipe: Recipe) -> float:
    """Seconds of a token with the exact head over those with the estimated one; infinite where unknown."""
    seconds = recipe.measured.get("head", {}).get("seconds_per_token", {})
    known = {"exact", "estimated"} <= seconds.keys()
    return seconds["exact"] / seconds["estimated"] if known else float("inf")


def _estimated_head(recipe: Recipe, decoder: Decoder) -> EstimatedHead:
    part = recipe.parts.get("head")
    if part is None:
        raise RecipeError(f"the recipe of {recipe.model} has no shortlist of the head: use --head dense")
    if not (isinstance(part.estimator, LowRank) and isinstance(part.selector, Confidence)):
        raise RecipeError(
            f"the head cannot run {part.estimator.name} with {part.selector.name}, "
            "only low_rank with confidence: fit another recipe"
        )
    return EstimatedHead(decoder.head_rows, part.state, part.selector, decoder.logit_cap)
