"""`shortlist fit`: a recipe of a model's head, kept in the cache folder, where every later load finds it."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from shortlist import checkpoints
from shortlist import recipe as recipes
from shortlist.errors import UsageError
from shortlist.fit.head import Report, calibrate_head
from shortlist.model.decoder import Decoder
from shortlist.model.tokenizer.tokenizer import Tokenizer
from shortlist.nearest import options_checked
from shortlist.paths import HOME_VARIABLE, check_writable


@options_checked
def fit(
    name: str | Path,
    *,
    text: str | None = None,
    weights: Literal["q8", "q4"] | None = None,
    threads: int | None = None,
    again: bool = True,
    report: Report = lambda *_: None,
) -> recipes.Recipe:
    """Fit the estimated head of a model and keep its recipe in the cache folder.

    Parameters
    ----------
    name, weights, threads
        As for `shortlist.load`.
    text : str, optional
        Calibration text. Left out, the model writes its own.
    again : bool
        Also where the cache folder holds a recipe of the model already.
    report : callable, optional
        Called with the stage of the work and the share of it that is done.

    Raises
    ------
    UsageError
        There is no such model, the text is too short, the head too narrow to be estimated through fewer
        dimensions, or the cache folder cannot be written.
    RecipeError
        The recipe in the cache folder is damaged and was to be kept, or the new one cannot be written.
    """
    with checkpoints.open_checkpoint(checkpoints.resolve(name)) as checkpoint:
        folder = recipes.default_folder(checkpoint.fingerprint)
        if not again and (folder / recipes.FILE_NAME).exists():
            return recipes.load(folder, checkpoint.fingerprint)
        _check_cache(folder)  # before a minute of work
        decoder = Decoder(checkpoint, weights=weights, ffn="dense", threads=threads)
        tokenizer = Tokenizer.from_checkpoint(checkpoint)
        recipe = calibrate_head(decoder, tokenizer, str(name), text=text, report=report)
    recipes.save(recipe, folder)
    return recipe


def _check_cache(folder: Path) -> None:
    try:
        check_writable(folder)
    except UsageError as error:
        why = str(error).rpartition(":")[0]
        raise UsageError(f"{why}: set {HOME_VARIABLE} to a folder that can be written") from None
