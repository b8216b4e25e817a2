"""A checkpoint's own recipe: the one in the cache, or a new one that is fitted now and kept there."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from shortlist import recipe as recipes
from shortlist.calibrate.head import Report, calibrate_head

STAGES = {
    "write": "writing calibration text",
    "read": "reading calibration text",
    "fit": "fitting the head's estimator",
    "choose": "choosing its rank and sigma",
    "measure": "measuring it",
    "time": "timing it",
}


def head_recipe(
    decoder: Any, tokenizer: Any, name: str, *, text: str | None = None, progress: bool = False
) -> recipes.Recipe:
    """The recipe of a model's head, fitted the first time it is asked for.

    Parameters
    ----------
    decoder, tokenizer, name, text
        As for `calibrate_head`.
    progress : bool
        Show a progress bar, if standard error is a terminal.

    Raises
    ------
    RecipeError
        The recipe in the cache is damaged, or the new one cannot be written there.
    UsageError
        As for `calibrate_head`.
    """
    folder = recipes.default_folder(decoder.fingerprint)
    if (folder / recipes.FILE_NAME).exists():
        return recipes.load(folder, decoder.fingerprint)
    with _bars(name, progress) as report:
        recipe = calibrate_head(decoder, tokenizer, name, text=text, report=report)
    recipes.save(recipe, folder)
    return recipe


@contextmanager
def _bars(name: str, progress: bool) -> Iterator[Report]:
    from rich.console import Console  # here, because most processes load a model whose recipe is there
    from rich.progress import Progress

    console = Console(stderr=True)
    with Progress(console=console, transient=True, disable=not (progress and console.is_terminal)) as bars:
        task = bars.add_task(name, total=1.0)

        def report(stage: str, share: float) -> None:
            bars.update(task, description=f"{name}: {STAGES[stage]}", completed=share)

        yield report
