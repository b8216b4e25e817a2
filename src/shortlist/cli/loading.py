"""Loads a model for a command: resolves `--exact` and `--head`, and hints once per model at fitting."""

import sys
from typing import TYPE_CHECKING, Any

from shortlist.cli.terminal import note
from shortlist.errors import UsageError

if TYPE_CHECKING:
    from shortlist.engine.choose_head import HeadName
    from shortlist.engine.model import Model

WORTH_A_HINT = 1.1
"""Smallest gain in speed by fitting for which the hint is printed."""


def load_model(name: str, *, head: "HeadName", exact: bool, hint: bool = False, **options: Any) -> "Model":
    """Call `shortlist.load` with the options of a command; the model's warnings go to standard error.

    Parameters
    ----------
    hint
        Whether to print a hint that fitting would make this model faster: the first time only, on standard
        error, where that is a terminal.

    Raises
    ------
    UsageError
        `--exact` and another `--head` were given together.
    """
    if exact and head not in ("auto", "exact"):
        raise UsageError(f"--exact and --head {head} contradict each other: give one of them")
    from shortlist.engine.load import load

    model = load(name, head="exact" if exact else head, **options)
    for warning in model.warnings:
        note(warning)
    if hint and not exact and head == "auto" and model.recipe is None and sys.stderr.isatty():
        _hint(name, model)
    return model


def _hint(name: str, model: "Model") -> None:
    """Print the hint, unless the cache folder records that it was printed for this model."""
    from shortlist.engine.choose_head import gain_of_fitting
    from shortlist.paths import cache_folder

    gain = gain_of_fitting(model.decoder, model.head)
    said = cache_folder() / "hints" / model.decoder.fingerprint
    if gain < WORTH_A_HINT or said.exists():
        return
    try:
        said.parent.mkdir(parents=True, exist_ok=True)
        said.touch()
    except OSError:  # without a record, the hint would be printed every time
        return
    note(
        f"hint: shortlist fit {name} takes about a minute, and this model then writes "
        f"about {gain:.1f} times as fast, a text that may differ a little"
    )
